"""What MkDocs needs beside mkdocs.yml: the decisions, the measured tables, and what the command line says of itself."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from training.cli.program import cli

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
MATHEMATICS = {"how-it-works.md", "architecture.md"}
FORMULA = re.compile(r"(?<=\n\n)(?: {4}\S.*\n+)+(?=\S)")
NO_PROSE = re.compile(r"(^```.*?^```$|`[^`\n]+`|\]\([^)]*\))", re.MULTILINE | re.DOTALL)
INDEX = re.compile(r"_((?:\([^()]*\)|[A-Za-z0-9]+)(?:,[a-z]\b)?(?:∈Ω(?:_[a-z])?)?)")
POWER = re.compile(r"\^([−\wγ½]+)")
COMMANDS = "<!-- the commands -->"


def on_config(config: MkDocsConfig) -> None:
    """List every decision and every table of results: adding a file adds the page."""
    config.nav = [
        *(config.nav or []),
        {"Benchmarks": ["benchmarks.md", *(f"results/{path.name}" for path in sorted(RESULTS.glob("*.md")))]},
        {"Decisions": [f"adr/{path.name}" for path in sorted((ROOT / "docs/adr").glob("*.md"), key=_readme_first)]},
    ]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """The tables of results are pages, though they lie beside the programs that made them."""
    for path in sorted(RESULTS.iterdir()):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Typeset formulas, point links at the results as pages, and fill in the command line."""
    results = os.path.relpath("results", Path(page.file.src_uri).parent)
    if page.file.src_uri.startswith(("results/", "adr/")):
        page.meta["search"] = {"boost": 0.1}  # found after the pages for those who use it
    if page.file.src_uri in MATHEMATICS:
        markdown = _typeset(markdown)
    markdown = re.sub(r"\]\((?:\.\./)+benchmarks/results/(?=[^)])", f"]({results}/", markdown)
    return markdown.replace(COMMANDS, "\n\n".join(map(_section, cli.commands))) if COMMANDS in markdown else markdown


def _typeset(markdown: str) -> str:
    """Indented formulas as formulas, and b_u, n^γ and their like with indices and powers, there and in the text."""
    parts = NO_PROSE.split(FORMULA.sub(lambda match: f'<div class="formula">{_lines(match[0])}</div>\n\n', markdown))
    return "".join(part if number % 2 else _indexed(part) for number, part in enumerate(parts))


def _lines(formula: str) -> str:
    return "\n".join(line.strip() for line in formula.splitlines() if line.strip())


def _indexed(text: str) -> str:
    return POWER.sub(r"<sup>\1</sup>", INDEX.sub(lambda match: f"<sub>{_indexed(match[1])}</sub>", text))


def _readme_first(path: Path) -> tuple[bool, str]:
    return path.stem != "README", path.name


def _section(name: str) -> str:
    """A command: what it does, its arguments and options. The text is that of `--help`."""
    command = cli.commands[name]
    context = click.Context(command, info_name=f"ratecast {name}")
    rows = [_row(parameter, context) for parameter in command.get_params(context)]
    table = "| | |\n|---|---|\n" + "\n".join(rows) if rows else ""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return f"### {name}\n\n`{usage}`\n\n{inspect.cleandoc(command.help or '')}\n\n{table}"


def _row(parameter: click.Parameter, context: click.Context) -> str:
    record: Any = parameter.get_help_record(context)
    left, right = record or (parameter.make_metavar(context), "required" if parameter.required else "")
    return f"| `{left}` | {right} |".replace("[]", "").replace("\n", " ")
