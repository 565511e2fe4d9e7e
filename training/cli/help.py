"""Click's commands and options, extended by named groups of options and commands, and by examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import click

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
OTHER = "Options"
WHOLE_SENTENCE = 200  # characters of a command's first sentence; click cuts a longer one


class _Option(click.Option):
    def __init__(self, *args: Any, group: str = OTHER, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose help shows the options in groups, in the order of declaration, and `examples`."""

    def __init__(self, *args: Any, examples: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(param, "group", OTHER), []).append(record)
        groups[OTHER] = groups.pop(OTHER)  # --json and --help come last
        _sections(formatter, groups)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        examples(formatter, self.examples)


class Group(click.Group):
    """A group of commands whose help shows them in `sections`: title → names of commands."""

    command_class = Command

    def __init__(self, *args: Any, sections: Mapping[str, Iterable[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        rows = {
            title: [(name, self.commands[name].get_short_help_str(WHOLE_SENTENCE)) for name in names]
            for title, names in self.sections.items()
        }
        _sections(formatter, rows)


def examples(formatter: click.HelpFormatter, lines: Iterable[str]) -> None:
    """Write the examples, unwrapped, so that they can be copied."""
    if lines := list(lines):
        with formatter.section("Examples"):
            for line in lines:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _sections(formatter: click.HelpFormatter, sections: Mapping[str, list[tuple[str, str]]]) -> None:
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows)


option = partial(click.option, cls=_Option)


def in_group(title: str) -> Callable[..., Decorator]:
    """`option` for the options of one group."""
    return partial(option, group=title)
