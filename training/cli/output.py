"""What commands print: results on stdout, as a table or one line of JSON, and errors on stderr, one line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from training.cli.help import option

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_COLUMNS = 10_000  # a program that reads a pipe needs each row on one line

json_option = option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object, the last line of stdout."
)


def answer(facts: Mapping[str, Any], *shown: RenderableType, as_json: bool) -> None:
    """Print `facts` as JSON, or else `shown`."""
    if as_json:
        click.echo(json.dumps(facts))
        return
    console = _console()
    if console.is_terminal:
        console.print(*shown, sep="\n")
        return
    with console.capture() as captured:
        console.print(*shown, sep="\n")
    click.echo("\n".join(map(str.rstrip, captured.get().splitlines())))


def say_error(message: str) -> None:
    """Print an error on stderr, on one line."""
    from rich.text import Text

    line = " ".join(message.split())
    _console(stderr=True).print(Text.assemble(("error:", "bold red"), " ", line), soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=PIPE_COLUMNS)
