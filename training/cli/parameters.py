"""Types of option values, their completion, and the options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from training import constants
from training.cli.help import Decorator, in_group, option
from training.errors import ConfigError

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
CHECKPOINTS_VARIABLE = "RATECAST_CHECKPOINTS"
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def columns(text: str) -> dict[str, str]:
    """A mapping given as `user=userId,rating=stars`."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(name and column for name, _, column in pairs):
        raise click.BadParameter(f"{text!r} is not NAME=COLUMN,NAME=COLUMN")
    return {name.strip(): column.strip() for name, _, column in pairs}


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
    """Complete `KEY=VALUE` from the preset that stands before it on the command line, if there is one."""
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


def checkpoints_option(*names: str) -> Decorator:
    """The option `--checkpoints`, also under other names."""
    return option(
        "--checkpoints",
        *names,
        "checkpoints",
        metavar="DIR",
        envvar=CHECKPOINTS_VARIABLE,
        required=True,
        is_eager=True,  # completion of versions reads it
        shell_complete=complete_directory,
        help=f"The checkpoint directory or its URL [the variable {CHECKPOINTS_VARIABLE}].",
    )


source_options = options(
    data_option(
        "--data",
        required=True,
        metavar="SOURCE",
        shell_complete=one_of(constants.DATA_SETS, or_file=True),
        help="A named data set, a file, a database URL, or synthetic:UxIxN.",
    ),
    data_option("--table", metavar="NAME", help="The table to read if --data is a database URL."),
    data_option("--columns", type=columns, metavar="NAME=COLUMN,…", help="Names of the columns in the data."),
)

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
