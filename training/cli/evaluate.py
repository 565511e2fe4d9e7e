"""`evaluate`: run the job without publishing its model, or as often as there are folds."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from training import constants
from training.cli import fit, output
from training.cli.help import Command
from training.cli.job_options import held_out_option, job_config, job_options
from training.launch import started_by_torchrun

IN_ITS_PLACE = ("split", "test", "resume", "item_bytes")  # --folds has no use for these options


@click.command(
    cls=Command,
    examples=(
        "ratecast evaluate --data ml-100k --preset als",
        "ratecast evaluate --data ratings.csv --split time:0.2 --preset bayes --json",
        "ratecast evaluate --data ratings.csv --folds 5 --preset bayes",
        "ratecast evaluate --data ratings.csv --split time:0.1 --replay --preset bayes",
    ),
)
@job_options(default_split="last-out")
@held_out_option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="N",
    help="Cross-validation in place of --split: N fits, each measured on another part of the ratings.",
)
@held_out_option(
    "--replay",
    is_flag=True,
    help="Go through the held-out ratings in the order of time, and measure what the service would have answered: "
    "each user is folded in from the ratings given by then. With --split time:F or --test.",
)
def evaluate(as_json: bool, quiet: bool, folds: int | None, replay: bool, **chosen: Any) -> None:
    """Fit a model and print its figures on held-out ratings. Nothing is published."""
    if (folds or replay) and started_by_torchrun():
        raise click.UsageError("--folds and --replay cannot be used under torchrun")
    constants.preset_file(chosen["preset"])  # refuses an unknown name before the slow imports
    if folds is None:
        fit.run(as_json, quiet, chosen | {"replay": replay})
        return
    ctx = click.get_current_context()
    given = [name for name in IN_ITS_PLACE if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    for name in [*given, *(["replay"] if replay else [])]:
        raise click.UsageError(f"--folds cannot be used with --{name.replace('_', '-')}")
    _cross_validate(as_json, quiet, {**chosen, "folds": folds, "split": "none"})


def _cross_validate(as_json: bool, quiet: bool, chosen: dict[str, Any]) -> None:
    from training.progress import following

    chosen.pop("item_bytes")
    with following(quiet=quiet) as progress:
        config = job_config(chosen)
        from training.cross_validation import cross_validate

        figures = cross_validate(config, progress.epoch, progress.phase)
    output.answer(figures, output.figures(figures), as_json=as_json)
