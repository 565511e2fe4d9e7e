"""`tune`: search for the settings of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from training.cli import output
from training.cli.help import Command, in_group
from training.cli.job_options import (
    PATH,
    fit_options,
    half_life_option,
    held_out_options,
    job_config,
    preset_options,
    ratings_options,
    relevant_option,
)
from training.cli.parameters import duration, machine_option, one_of, options
from training.launch import started_by_torchrun

if TYPE_CHECKING:
    from rich.table import Table

search_option = in_group("Search")
FITS = 30
TITLES = {"rmse": "RMSE", "ndcg10": "NDCG@10"}

search_options = options(
    search_option("--out", type=PATH, metavar="FILE", required=True, help="The preset file to write, a name in .toml."),
    search_option(
        "--fits",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"End after so many fits [{FITS}, unless --time is given].",
    ),
    search_option("--time", "seconds", type=duration, metavar="DURATION", help="End after so long: 90s, 30m or 6h."),
    search_option(
        "--by",
        "aim",
        type=click.Choice(list(TITLES)),
        default="rmse",
        help="The figure to improve: by rmse the settings of the rating model are searched, by ndcg10 those of the "
        "relevance head, if the preset has one.",
    ),
    search_option(
        "--search",
        "values",
        multiple=True,
        metavar="KEY=VALUES",
        help="Search this setting, and others only if they are given too: a list, factors=[15,31], or a range, "
        '"regularisation={from=0.3,to=4.0,log=true}". Without it, what the preset\'s table [tune] says.',
    ),
    search_option(
        "--inner-split",
        "inner",
        metavar="KIND",
        shell_complete=one_of(("last-out", "random:0.1", "time:0.1")),
        help="How to hold out the ratings that settings are chosen by [as --split, else random:0.1].",
    ),
)


@click.command(
    cls=Command,
    examples=(
        "ratecast tune --data ratings.csv --split random:0.1 --preset als --time 10m --out tuned.toml",
        "ratecast tune --data ratings.csv --preset als --by ndcg10 --fits 20 --out lists.toml",
        "ratecast fit --data ratings.csv --split random:0.1 --preset tuned.toml --out checkpoints",
    ),
)
@ratings_options
@held_out_options(default_split="none")
@relevant_option
@preset_options
@half_life_option
@search_options
@fit_options
@machine_option("--resume", type=PATH, metavar="FILE", help="Save the search in this file, and resume it from there.")
def tune(as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Search for better settings of a preset, and write them as a preset file.

    Each fit is measured on ratings held out from the training part, which is what settings are chosen by. What --split
    or --test holds out takes no part in the search, and measures the result. The first fit is of the preset itself.
    """
    if started_by_torchrun():
        raise click.UsageError("tune cannot be used under torchrun")
    named = ("out", "fits", "seconds", "aim", "values", "inner", "resume")
    given = {name: chosen.pop(name) for name in named}
    if given["fits"] is None and given["seconds"] is None:
        given["fits"] = FITS
    from training.progress import following, terminal

    with following(quiet=quiet) as progress:
        config = job_config(chosen)
        from training import tuning

        # A log has a line for each fit, not for each of its epochs.
        report = progress.epoch if terminal().is_interactive else lambda _: None
        found = tuning.tune(config, tuning.Search(**given), report, progress.phase)
    output.answer(found, _table(found), _said(found), as_json=as_json)


def _table(found: Mapping[str, Any]) -> Table:
    right = {"justify": "right", "no_wrap": True}
    lines = [(row["name"], *map(_value, (row["start"], row["best"]))) for row in found["settings"]]
    title = TITLES[found["aim"]]
    lines.append(
        (f"{title}, {found['inner_split']} of the training part", *map(_figure, (found["start"], found["best"])))
    )
    if found["test"] is not None:
        lines.append((f"{title}, held out by {found['split']}", *map(_figure, found["test"].values())))
    return output.rows({"": {}, found["preset"]: right, f"best of {found['fits']} fits": right}, lines)


def _said(found: Mapping[str, Any]) -> str:
    none_better = "" if found["best_fit"] > 1 else f"No settings were better than those of {found['preset']}.\n"
    return f"\n{none_better}Wrote {found['file']}: use it with --preset {found['file']}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
