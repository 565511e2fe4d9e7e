"""`fit` and `evaluate`: run the job, with or without publishing its model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training import constants
from training.cli import output
from training.cli.help import Command, Decorator, in_group
from training.cli.parameters import (
    complete_directory,
    complete_setting,
    data_option,
    device_options,
    duration,
    item_options,
    machine_option,
    one_of,
    options,
    quiet_option,
    reading_options,
    source_option,
    taken_source_options,
)
from training.launch import is_first, started_by_torchrun

if TYPE_CHECKING:
    from training.runtime import Runtime


PATH = click.Path(path_type=Path)
held_out_option, model_option = in_group("Held-out ratings"), in_group("Model")
publication_option = in_group("Publication")


def job_options(default_split: str) -> Decorator:
    """The options that `fit` and `evaluate` share."""
    return options(
        source_option(),
        reading_options,
        item_options,
        data_option(
            "--store",
            metavar="URL",
            help="The service's ratings store: users who were deleted there are left out of the other sources.",
        ),
        data_option(
            "--user-attributes",
            metavar="FILE",
            shell_complete=one_of((), or_file=True),
            help="A file with a column id and any attributes of users, or a data set; for a preset that uses them.",
        ),
        data_option(
            "--item-attributes", metavar="FILE", shell_complete=one_of((), or_file=True), help="The same for items."
        ),
        held_out_option(
            "--split",
            default=default_split,
            metavar="KIND",
            shell_complete=one_of(("last-out", "random:0.1", "time:0.1", "none")),
            help="The ratings to hold out: last-out, random:F, time:F or none.",
        ),
        held_out_option(
            "--test",
            metavar="FILE",
            shell_complete=one_of((), or_file=True),
            help="A file of held-out ratings; --split is then ignored.",
        ),
        held_out_option(
            "--relevant",
            type=float,
            metavar="RATING",
            help="The lowest rating of a relevant item [three quarters up the scale].",
        ),
        model_option(
            "--preset",
            required=True,
            metavar="NAME",
            is_eager=True,  # completion of --set reads it
            shell_complete=one_of(constants.preset_names(), or_file=True),
            help="A preset that `presets` lists, or a .toml file.",
        ),
        model_option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            shell_complete=complete_setting,
            help="Change a setting (`presets NAME` lists them); may be repeated.",
        ),
        model_option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Seed of all random choices."),
        device_options,
        machine_option(
            "--resume",
            type=PATH,
            help="Save the state of the fit in this file (under torchrun: directory), and resume from it.",
        ),
        machine_option(
            "--save-every",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            default=constants.SAVE_SECONDS,
            help="Minimum seconds between two saves of the state.",
        ),
        machine_option(
            "--item-bytes",
            type=click.IntRange(min=1),
            metavar="N",
            help="Under torchrun: maximum bytes of a copy of all items' rows on a rank [a quarter of the free memory].",
        ),
        quiet_option,
    )


@click.command(
    cls=Command,
    examples=(
        "python -m training fit --data ml-100k --split random:0.1 --preset bayes --out checkpoints",
        "python -m training fit --data ratings.csv --preset als --set factors=63 --out checkpoints",
        "python -m training fit --data postgresql://HOST/NAME --table ratings --preset als \\",
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
    if every is None:
        _run(as_json, quiet, chosen)
        return
    if started_by_torchrun():
        raise click.UsageError("--every cannot be used under torchrun")
    from training import schedule

    schedule.repeat(every, lambda: _run(as_json, quiet, chosen))


@click.command(
    cls=Command,
    examples=(
        "python -m training evaluate --data ml-100k --preset als",
        "python -m training evaluate --data ratings.csv --split time:0.2 --preset bayes --json",
    ),
)
@job_options(default_split="last-out")
def evaluate(as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Fit a model and print its figures on held-out ratings. Nothing is published."""
    _run(as_json, quiet, chosen)


def _runtime(device: str, item_bytes: int | None) -> AbstractContextManager[Runtime | None]:
    """The runtime of a process that torchrun has started; None for a single process."""
    if not started_by_torchrun():
        return nullcontext()
    from training.distributed.runtime import distributed

    return distributed(device, item_bytes)


def _run(as_json: bool, quiet: bool, chosen: Mapping[str, Any]) -> None:
    from training.progress import following

    constants.preset_file(chosen["preset"])  # refuses an unknown name before the slow imports
    with following(quiet=quiet) as progress:
        from training import config, job
        from training.data.fetch import default_cache
        from training.errors import RefusedError

        options = {**chosen, "cache": default_cache()}
        options["options"] = taken_source_options(options)
        joined = _runtime(chosen["device"], options.pop("item_bytes"))
        with job.destination(chosen.get("out")) as (options["out"], options["remote"]), joined as runtime:
            outcome = job.run(config.JobConfig(**options), progress.epoch, progress.phase, runtime)
    if not is_first():
        return
    output.answer(outcome.figures, output.figures(outcome.figures), as_json=as_json)
    if outcome.refusal is not None:
        raise RefusedError(f"not published: {outcome.refusal} (use --force to publish it anyway)")
