"""`compare`: which of several presets and published versions predicts better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from training import constants
from training.cli import output
from training.cli.help import Command
from training.cli.job_options import fit_options, held_out_options, job_config, ratings_options
from training.cli.parameters import checkpoints_option, one_of

if TYPE_CHECKING:
    from rich.table import Table


@click.command(
    cls=Command,
    examples=(
        "ratecast compare bias als bayes --data ratings.csv --split random:0.1",
        "ratecast compare bayes tuned.toml --data ratings.csv --test later.csv",
        "ratecast compare current bayes --checkpoints checkpoints --data ratings.csv --split time:0.1",
    ),
)
@click.argument("models", nargs=-1, metavar="A B [C…]", shell_complete=one_of(constants.preset_names(), or_file=True))
@ratings_options
@held_out_options(default_split="last-out")
@checkpoints_option(required=False)
@fit_options
def compare(as_json: bool, quiet: bool, models: tuple[str, ...], checkpoints: str | None, **chosen: Any) -> None:
    """Compare models on the same held-out ratings: is each of the others better than A, worse, or is there no
    difference?

    A, B, … are presets, .toml files of presets, versions in --checkpoints, `current`, or paths or URLs of versions.
    Presets are fitted to the ratings that are not held out. Ratings that a version was fitted on are left out.
    """
    if len(models) < 2 or len(set(models)) < len(models):
        raise click.UsageError("compare needs two models or more, each of them once")
    from training.progress import following

    with following(quiet=quiet) as progress:
        from training.comparison import compare as compared

        config = job_config({**chosen, "preset": constants.preset_names()[0]})
        found = compared(config, models, checkpoints, progress.epoch, progress.phase)
    output.answer(found, _title(found), _table(found), as_json=as_json)


def _title(found: Mapping[str, Any]) -> str:
    return f"{found['ratings']:,} held-out ratings of {found['users']:,} users ({found['split']})\n"


def _table(found: Mapping[str, Any]) -> Table:
    first = found["models"][0]["model"]
    right = {"justify": "right", "no_wrap": True}
    columns: dict[str, dict[str, Any]] = {"model": {}, "RMSE, clipped": right, f"less that of {first}": right}
    return output.rows(columns | {"95 % interval": right, "verdict": {}}, map(_line, found["models"]))


def _line(model: Mapping[str, Any]) -> tuple[str, ...]:
    start = model["model"], f"{model['rmse_clipped']:.4f}"
    if model["verdict"] is None:
        return *start, "", "", ""
    interval = f"{model['low']:+.4f} to {model['high']:+.4f}"
    return *start, f"{model['difference']:+.4f}", interval, model["verdict"]
