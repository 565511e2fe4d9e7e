"""What commands print: results on stdout, as a table or one line of JSON, and errors on stderr, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PIPE_COLUMNS = 10_000  # in a pipe each row stays on one line
UNITS = {"fit_seconds": "s", "relevance_seconds": "s", "seconds": "s", "peak_memory_mb": "MB", "novelty10": "bits"}
SHARES = ("coverage90", "catalogue10")
BARS = "▁▂▃▄▅▆▇█"
LARGE = 1_000  # larger figures are shown without decimals

# Group → figure, named as in `--json` → title.
GROUPS: dict[str, dict[str, str]] = {
    "Data": {
        "dataset": "data set",
        "split": "split",
        "folds": "folds",
        "users": "users",
        "items": "items",
        "rows": "rows read",
        "dropped": "rows that mean not rated",
        "duplicates": "rows replaced by a later rating",
        "scale": "scale",
        "histogram": "ratings",
        "first_rating": "first rating",
        "last_rating": "last rating",
        "train_ratings": "training ratings",
        "test_ratings": "test ratings",
    },
    "Fit": {
        "preset": "preset",
        "trainer": "trainer",
        "device": "device",
        "threads": "CPU threads",
        "seed": "seed",
        "train_loss": "training loss",
        "fit_seconds": "fit",
        "relevance_seconds": "relevance head",
        "seconds": "whole job",
        "examples_per_second": "examples a second",
        "peak_memory_mb": "peak memory",
    },
    "Errors": {
        "rmse": "RMSE",
        "bias_rmse": "RMSE of biases alone",
        "rmse_clipped": "RMSE, clipped",
        "mae": "MAE",
        "user_rmse": "RMSE, mean of users",
        "nll": "log likelihood, neg.",
        "coverage90": "in 90 % intervals",
    },
    "Ranking": {
        "ndcg10": "NDCG@10",
        "recall10": "recall@10",
        "ndcg10_rating": "NDCG@10 by rating",
        "catalogue10": "items in any list",
        "novelty10": "novelty",
        "diversity10": "diversity",
    },
    "Checkpoint": {"version": "version", "checkpoint": "directory", "report": "report"},
}


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


def rows(columns: Mapping[str, Mapping[str, Any]], content: Iterable[Sequence[str]], *, spaced: bool = False) -> Table:
    """A table with a head. `columns`: title → further arguments of rich's `add_column`."""
    table = _table(header_style="bold", show_lines=spaced)
    for title, options in columns.items():
        table.add_column(title, overflow="fold", **options)
    for row in content:
        table.add_row(*row)
    return table


def drawn(bins: Sequence[tuple[float, float, int]]) -> str:
    """A histogram in one line, from the lowest rating to the highest: `1 ▂▃▅█▇ 5`."""
    most = max(count for *_, count in bins)
    bars = "".join(BARS[round(count / most * (len(BARS) - 1))] for *_, count in bins)
    return f"{bins[0][0]:g} {bars} {bins[-1][1]:g}"


def figures(found: Mapping[str, Any]) -> Table:
    """The figures of a fit in groups, without those that do not apply. The RMSE is compared with that of the biases."""
    table = _table(show_header=False)
    for style in ("bold", "", ""):
        table.add_column(overflow="fold", style=style)
    for group, names in GROUPS.items():
        known = [name for name in names if found.get(name) is not None]
        for name in known:
            title = group if name == known[0] else ""
            table.add_row(title, names[name], _value(name, found[name]) + _beside(name, found))
        table.add_section()
    return table


def replayed(found: Mapping[str, Any]) -> Table:
    """The errors of a replay, without and with fold-in, by the number of ratings since the fit."""
    of_groups = [
        (f"{who}{_range(group)}", group)
        for who, name in (("", "since_fit"), ("new users, ", "new_users"))
        for group in found[name]
        if group["ratings"]
    ]
    right = {"justify": "right", "no_wrap": True}
    columns: dict[str, dict[str, Any]] = {"ratings since the fit": {}, "predicted": right}
    columns |= {"RMSE of the fit alone": right, "RMSE with fold-in": right}
    return rows(
        columns,
        (
            (title, f"{group['ratings']:,}", f"{group['rmse']:.4f}", f"{group['rmse_fold_in']:.4f}")
            for title, group in (("any", found), *of_groups)
        ),
    )


def _range(group: Mapping[str, Any]) -> str:
    least, most = group["from"], group["to"]
    return f"{least} or more" if most is None else str(least) if most == least else f"{least} to {most}"


def _table(**options: Any) -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, **options)


def _value(name: str, figure: Any) -> str:
    if name in SHARES:
        return f"{figure:.1%}"
    if name == "seed" or isinstance(figure, str):
        return str(figure)
    if name == "scale":
        return "{:g} to {:g}".format(*figure)
    if name == "histogram":
        return drawn(figure)
    if isinstance(figure, int):
        return f"{figure:,}"
    if unit := UNITS.get(name):
        return f"{figure:,.1f} {unit}"
    return f"{figure:,.0f}" if figure >= LARGE else f"{figure:,.4f}"


def _beside(name: str, found: Mapping[str, Any]) -> str:
    """The spread over folds, and for the RMSE how it compares with that of the biases."""
    spread, baseline = found.get("spread", {}).get(name), found.get("bias_rmse")
    text = "" if spread is None else f" ± {_value(name, spread)}"
    if name != "rmse" or not baseline:
        return text
    change = found["rmse"] / baseline - 1
    return f"{text}   {abs(change):.1%} {'below' if change < 0 else 'above'} that of biases alone"
