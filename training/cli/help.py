"""Click's commands and options, extended by named groups of options and commands, by examples, and by `--json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import click

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
OTHER = "Options"
WHOLE_SENTENCE = 200  # characters of a command's first sentence; click cuts a longer one
JSON_HELP = "Print the result as one JSON object, the last line of stdout."


class _Option(click.Option):
    def __init__(self, *args: Any, group: str = OTHER, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command with the option `--json`, passed as `as_json`.

    Its help shows the options in groups, in the order of declaration, and the examples unwrapped, to be copied.
    """

    def __init__(self, *args: Any, examples: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_Option(["--json", "as_json"], is_flag=True, help=JSON_HELP))
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(param, "group", OTHER), []).append(record)
        groups[OTHER] = groups.pop(OTHER)  # --json and --help come last
        _write_sections(formatter, groups)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(click.Group):
    """A group of commands whose help shows them in `sections`: title → commands."""

    def __init__(self, *args: Any, sections: Mapping[str, Iterable[click.Command]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: dict[str, tuple[click.Command, ...]] = {}
        for title, commands in sections.items():
            self.add_section(title, *commands)

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands, which the help shows under this title."""
        self.sections[title] = commands
        for command in commands:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        rows = {
            title: [(str(command.name), command.get_short_help_str(WHOLE_SENTENCE)) for command in commands]
            for title, commands in self.sections.items()
        }
        _write_sections(formatter, rows)


def _write_sections(formatter: click.HelpFormatter, sections: Mapping[str, list[tuple[str, str]]]) -> None:
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows)


option = partial(click.option, cls=_Option)


def in_group(title: str) -> Callable[..., Decorator]:
    """`option` for the options of one group."""
    return partial(option, group=title)
