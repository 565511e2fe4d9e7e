"""`fit`: run the job and publish its model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from training import constants
from training.cli import output
from training.cli.help import Command, in_group
from training.cli.job_options import job_config, job_options, model_option
from training.cli.parameters import complete_directory, duration
from training.launch import is_first, started_by_torchrun

if TYPE_CHECKING:
    from training.runtime import Runtime

publication_option = in_group("Publication")


@click.command(
    cls=Command,
    examples=(
        "ratecast fit --data ml-100k --split random:0.1 --preset bayes --out checkpoints",
        "ratecast fit --data ratings.csv --preset als --set factors=63 --out checkpoints",
        "ratecast fit --data postgresql://HOST/NAME --table ratings --preset als \\",
        "    --split random:0.1 --refit --every 1d --out checkpoints",
    ),
)
@job_options(default_split="none")
@publication_option(
    "--out",
    metavar="DIR",
    required=True,
    shell_complete=complete_directory,
    help="The checkpoint directory to publish to, or its URL.",
)
@publication_option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="SHARE",
    default=constants.DEFAULT_TOLERANCE,
    help="How much higher the RMSE may be than that of the served model, as a share of it.",
)
@publication_option(
    "--no-activate",
    "activate",
    flag_value=False,
    default=True,
    show_default=False,
    help="Publish the model without making it the current version.",
)
@model_option("--warm-start", is_flag=True, help="Start from the current checkpoint, if the trainer can.")
@publication_option(
    "--refit", is_flag=True, help="Once the model has passed the quality gate, fit all ratings and publish that model."
)
@publication_option(
    "--every",
    type=duration,
    metavar="DURATION",
    help="Repeat the fit at this interval: 30m, 6h or 1d. Failures are logged.",
)
@publication_option(
    "--track",
    metavar="mlflow[:URI]",
    help="Log settings, figures, curve and report as a run of MLflow, at a URI or where MLFLOW_TRACKING_URI says. "
    "Needs ratecast[track].",
)
@publication_option(
    "--force",
    is_flag=True,
    help="Publish the model even if the quality gate refuses it, which the manifest records, or if nothing measures it "
    "and the served version was measured.",
)
def fit(as_json: bool, quiet: bool, every: float | None, **chosen: Any) -> None:
    """Fit a model and publish it as the current checkpoint.

    If ratings are held out, the quality gate refuses a model that does not beat the preset `bias` or is worse than the
    served model.
    """
    if every is not None and started_by_torchrun():
        raise click.UsageError("--every cannot be used under torchrun")
    constants.preset_file(chosen["preset"])  # refuses an unknown name before the slow imports
    if chosen["track"] is not None and started_by_torchrun():
        raise click.UsageError("--track cannot be used under torchrun")
    from training import schedule

    work, note = partial(run, as_json, quiet, chosen), partial(schedule.note_in, chosen["out"])
    if every is not None:
        schedule.repeat(every, work, note)
    elif is_first():
        schedule.once(work, note)
    else:
        work()


def runtime(device: str, item_bytes: int | None) -> AbstractContextManager[Runtime | None]:
    """The runtime of a process that torchrun has started; None for a single process."""
    if not started_by_torchrun():
        return nullcontext()
    from training.distributed.runtime import distributed

    return distributed(device, item_bytes)


def run(as_json: bool, quiet: bool, chosen: Mapping[str, Any]) -> str:
    """Do the job with these options, print its figures, and give the version that was published.

    Raises RefusedError if the gate refuses the model.
    """
    began = time.perf_counter()
    from training.progress import following

    with following(quiet=quiet) as progress:
        from training import job
        from training.errors import RefusedError
        from training.tracking import tracked

        options = dict(chosen)
        track = options.pop("track", None)
        joined = runtime(chosen["device"], options.pop("item_bytes"))
        with (
            job.destination(chosen.get("out")) as (options["out"], options["remote"]),
            joined as processes,
            tracked(track, chosen["preset"]) as note,
        ):
            outcome = job.run(job_config(options), progress.epoch, progress.phase, processes)
            note(outcome)
    if not is_first():
        return ""
    figures = {**outcome.figures, "seconds": time.perf_counter() - began}
    replay = figures.get("replay")
    tables = [output.figures(figures), *([output.replayed(replay)] if replay else [])]
    output.answer(figures, *tables, as_json=as_json)
    if outcome.refusal is not None:
        raise RefusedError(f"not published: {outcome.refusal} (use --force to publish it anyway)")
    return str(outcome.figures.get("version", ""))
