"""Types of option values, their completion, and the options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from training import constants
from training.cli.help import Decorator, in_group, option
from training.errors import ConfigError
from training.options import SourceOptions

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
CHECKPOINTS_VARIABLE = "RATECAST_CHECKPOINTS"
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def columns(text: str) -> dict[str, str]:
    """A mapping given as `user=userId,rating=stars`."""
    pairs = [pair.partition("=") for pair in text.split(",") if text]
    if not all(name and equals for name, equals, _ in pairs):
        raise click.BadParameter(f"{text!r} is not NAME=COLUMN,NAME=COLUMN")
    return {name.strip(): column.strip() for name, _, column in pairs}


def numbers(text: str) -> tuple[float, ...]:
    """Finite numbers given as `-1,99`."""
    try:
        found = tuple(map(float, text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise click.BadParameter(f"{text!r} is not a number, or several with commas between them")
    return found


def dropped(text: str) -> tuple[float, ...]:
    """As `numbers`, or none."""
    return numbers(text) if text else ()


def scale(text: str) -> tuple[float, float]:
    """A lower and a higher number given as `1,5`."""
    found = numbers(text)
    if len(found) != 2 or found[0] >= found[1]:
        raise click.BadParameter(f"{text!r} is not LOW,HIGH, as in 1,5")
    return found[0], found[1]


def duration(text: str) -> float:
    """Seconds given as `30m`, `6h` or `1d`."""
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or int(number) == 0 or unit not in SECONDS:
        raise click.BadParameter(f"{text!r} is not a duration like 30m, 6h or 1d")
    return float(int(number) * SECONDS[unit])


def one_of(words: Iterable[str], *, or_file: bool = False) -> Completion:
    """Complete one of the words, or with `or_file` the name of a file."""
    known = tuple(words)

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(word) for word in known if word.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")] if or_file and not found else found

    return complete


def complete_setting(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `KEY=VALUE` from the preset that precedes it on the command line, if there is one."""
    try:
        stated = constants.stated_settings(constants.preset_content(ctx.params.get("preset") or ""))
    except (ConfigError, OSError, ValueError):
        return []
    return [CompletionItem(f"{key}={value}") for key, value in stated.items() if key.startswith(incomplete)]


def complete_directory(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete directories. URLs are not completed."""
    return [CompletionItem(incomplete, type="dir")]


def complete_version(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete versions of the directory that the command line or the variable names."""
    named = ctx.params.get("checkpoints") or ctx.params.get("out") or os.environ.get(CHECKPOINTS_VARIABLE, "")
    found = sorted(path.parent.name for path in Path(named).glob("*/manifest.json"))
    return [CompletionItem(version) for version in found if version.startswith(incomplete)]


def options(*chosen: Decorator) -> Decorator:
    """Several options as one decorator."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for each in reversed(chosen):
            command = each(command)
        return command

    return decorate


data_option, machine_option = in_group("Data"), in_group("Machine")

quiet_option = option("--quiet", "-q", is_flag=True, help="Show no progress, only warnings, errors and the result.")


def checkpoints_option(*names: str, required: bool = True) -> Decorator:
    """The option `--checkpoints`, also under other names."""
    return option(
        "--checkpoints",
        *names,
        "checkpoints",
        metavar="DIR",
        envvar=CHECKPOINTS_VARIABLE,
        required=required,
        is_eager=True,  # completion of versions reads it
        shell_complete=complete_directory,
        help=f"The checkpoint directory or its URL [the variable {CHECKPOINTS_VARIABLE}].",
    )


def source_option(*, required: bool = True) -> Decorator:
    """The option `--data`."""
    return data_option(
        "--data",
        required=required,
        multiple=True,
        metavar="SOURCE",
        shell_complete=one_of(constants.DATA_SETS, or_file=True),
        help="A file, folder, pattern or URL of files, - for standard input, a database URL, a named data set, or "
        "synthetic:UxIxN. May be repeated.",
    )


reading_options = options(
    data_option("--table", metavar="NAME", help="The table to read if --data is a database URL."),
    data_option("--query", metavar="SELECT", help="A query that selects the ratings, in place of --table."),
    data_option(
        "--columns",
        type=columns,
        default="",
        show_default=False,
        metavar="NAME=COLUMN,…",
        help="The columns of user, item, rating and timestamp, by name or by position from 1.",
    ),
    data_option(
        "--separator",
        metavar="CHARACTER",
        help="The separator of the fields of a text: , ; tab | :: : or blank [recognised].",
    ),
    data_option(
        "--no-header",
        "header",
        flag_value=False,
        default=True,
        show_default=False,
        help="The first line of a text is a rating.",
    ),
    data_option(
        "--no-quotes",
        "quotes",
        flag_value=False,
        default=True,
        show_default=False,
        help="Double quotes in a text are ordinary characters.",
    ),
    data_option("--encoding", metavar="NAME", help="The encoding of a text, such as cp1252 or utf-16 [UTF-8]."),
    data_option(
        "--decimal",
        type=click.Choice([".", ","]),
        default=".",
        help="The decimal sign of the ratings in a text.",
    ),
    data_option(
        "--drop-rating",
        "drop_ratings",
        type=dropped,
        default="",
        show_default=False,
        metavar="VALUE,…",
        help="Ratings that mean “not rated”: their rows are dropped and counted.",
    ),
    data_option(
        "--scale", type=scale, metavar="LOW,HIGH", help="The lowest and the highest rating [those that occur]."
    ),
)


item_options = options(
    data_option(
        "--items",
        metavar="FILE",
        shell_complete=one_of((), or_file=True),
        help="A file that describes the items: columns id, title, year and genres; all others are labels.",
    ),
    data_option(
        "--item-columns",
        type=columns,
        default="",
        show_default=False,
        metavar="NAME=COLUMN,…",
        help="The columns of id, title, year and genres in --items.",
    ),
)


def taken_source_options(chosen: dict[str, Any]) -> SourceOptions:
    """The values of `reading_options`. They are removed from `chosen`."""
    return SourceOptions(**{field.name: chosen.pop(field.name) for field in fields(SourceOptions)})


device_options = options(
    machine_option(
        "--device",
        default="auto",
        metavar="DEVICE",
        shell_complete=one_of(("auto", "cpu", "cuda", "cuda:0")),
        help="The device to use: auto, cpu, cuda or cuda:N.",
    ),
    machine_option("--threads", type=click.IntRange(min=1), metavar="N", help="Number of CPU threads [all cores]."),
)
