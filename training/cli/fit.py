"""`fit` and `evaluate`: the job, with or without publication at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from training import constants
from training.cli import output
from training.cli.help import Command, option
from training.cli.parameters import (
    Decorator,
    Duration,
    complete_directory,
    complete_setting,
    device_options,
    one_of,
    options,
    quiet_option,
    source_options,
)
from training.launch import is_first, started_by_torchrun


def job_options(default_split: str) -> Decorator:
    """The options that `fit` and `evaluate` share."""
    return options(
        source_options,
        option(
            "--user-attributes",
            type=click.Path(path_type=Path),
            group="Data",
            help="A .csv or .parquet file: id, then anything.",
        ),
        option("--item-attributes", type=click.Path(path_type=Path), group="Data", help="The same for items."),
        option(
            "--split",
            default=default_split,
            show_default=True,
            metavar="KIND",
            group="Held-out ratings",
            shell_complete=one_of(("last-out", "random:0.1", "time:0.1", "none")),
            help="Hold out last-out, random:F, time:F or none.",
        ),
        option(
            "--test",
            metavar="FILE",
            group="Held-out ratings",
            shell_complete=one_of((), or_file=True),
            help="A file whose ratings are the test part; --split is then not used.",
        ),
        option(
            "--relevant",
            type=float,
            metavar="RATING",
            group="Held-out ratings",
            help="Rating from which an item is relevant [3/4 up the scale].",
        ),
        option(
            "--preset",
            required=True,
            metavar="NAME",
            group="Model",
            is_eager=True,  # what completes --set looks at it
            shell_complete=one_of(constants.preset_names(), or_file=True),
            help="One of those that `presets` lists, or a .toml file.",
        ),
        option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            group="Model",
            shell_complete=complete_setting,
            help="Override a setting (`presets NAME` lists them); repeatable.",
        ),
        option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            metavar="N",
            show_default=True,
            group="Model",
            help="Fixes every choice.",
        ),
        device_options,
        option(
            "--resume",
            type=click.Path(path_type=Path),
            group="Machine",
            help="Keep the state of the fit in this file (directory under torchrun), and go on from it if interrupted.",
        ),
        option(
            "--save-every",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            default=constants.SAVE_SECONDS,
            show_default=True,
            group="Machine",
            help="Least seconds between two saves of that state.",
        ),
        option(
            "--item-bytes",
            type=click.IntRange(min=1),
            metavar="N",
            group="Machine",
            help="Under torchrun: the most a copy of all items' rows may take on a rank [a quarter of what is free].",
        ),
        quiet_option,
        output.json_option,
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
@option(
    "--out",
    metavar="DIR",
    required=True,
    group="Publication",
    shell_complete=complete_directory,
    help="The checkpoint directory to publish to, or the URL of one.",
)
@option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="SHARE",
    default=constants.DEFAULT_TOLERANCE,
    show_default=True,
    group="Publication",
    help="How much worse than the served model's RMSE is acceptable, relatively.",
)
@option(
    "--no-activate",
    "activate",
    flag_value=False,
    default=True,
    group="Publication",
    help="Publish, and leave CURRENT as it is.",
)
@option("--warm-start", is_flag=True, group="Model", help="Start from the current checkpoint where the trainer can.")
@option(
    "--refit",
    is_flag=True,
    group="Publication",
    help="Publish a model of all ratings once one without the held-out has passed.",
)
@option(
    "--every",
    type=Duration(),
    group="Publication",
    help="Fit again and again, so often: 30m, 6h, 1d. Failures are logged.",
)
@option(
    "--force",
    is_flag=True,
    group="Publication",
    help="Publish even what the quality gate refuses; the manifest says so.",
)
def fit(as_json: bool, quiet: bool, every: float | None, **chosen: Any) -> None:
    """Fit a model and publish it as the current checkpoint.

    With held-out ratings, a model that does not beat the preset `bias`, or is worse than the served one, is refused.
    """
    if every is None:
        _run(as_json, quiet, chosen)
        return
    if started_by_torchrun():
        raise click.UsageError("--every does not go with torchrun")
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
    """Fit a model and print its figures on held-out ratings. Publishes nothing."""
    _run(as_json, quiet, chosen)


def _run(as_json: bool, quiet: bool, chosen: Mapping[str, Any]) -> None:
    from training.progress import following

    constants.preset_file(chosen["preset"])  # at once, where there is none
    with following(quiet=quiet) as progress:
        from training import config, job
        from training.cli.tables import figures
        from training.data.fetch import default_cache
        from training.destination import destination
        from training.errors import RefusedError

        with destination(chosen.get("out")) as (out, remote):
            place = {"out": out, "remote": remote, "cache": default_cache()}
            outcome = job.run(config.JobConfig(**{**chosen, **place}), progress.epoch, progress.phase)
    if not is_first():
        return
    output.answer(outcome.figures, figures(outcome.figures), as_json=as_json)
    if outcome.refusal is not None:
        raise RefusedError(f"not published: {outcome.refusal} (--force publishes it all the same)")
