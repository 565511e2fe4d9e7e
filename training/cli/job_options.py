"""The options that commands which fit models share, and the configuration of a job that they give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training import constants
from training.cli.help import Decorator, in_group
from training.cli.parameters import (
    complete_setting,
    data_option,
    device_options,
    item_options,
    machine_option,
    one_of,
    options,
    quiet_option,
    reading_options,
    source_option,
    taken_source_options,
)

if TYPE_CHECKING:
    from training.config import JobConfig

PATH = click.Path(path_type=Path)
held_out_option, model_option = in_group("Held-out ratings"), in_group("Model")

ratings_options = options(
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
)


def held_out_options(default_split: str) -> Decorator:
    """Which ratings are held out."""
    return options(
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
    )


relevant_option = held_out_option(
    "--relevant",
    type=float,
    metavar="RATING",
    help="The lowest rating of a relevant item [three quarters up the scale].",
)
half_life_option = model_option(
    "--half-life",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    metavar="DAYS",
    help="Let a rating count half as much for each so many days before the latest one [all alike].",
)
preset_options = options(
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
)
fit_options = options(
    model_option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Seed of all random choices."),
    device_options,
    quiet_option,
)
state_options = options(
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
)


def job_options(default_split: str) -> Decorator:
    """The options that `fit` and `evaluate` share."""
    return options(
        ratings_options,
        held_out_options(default_split),
        relevant_option,
        preset_options,
        half_life_option,
        fit_options,
        state_options,
    )


def job_config(chosen: dict[str, Any]) -> JobConfig:
    """The configuration that options give. Raises ConfigError for a preset that does not exist."""
    constants.preset_file(chosen["preset"])  # refuses an unknown name before the slow imports
    from training.config import JobConfig
    from training.data.fetch import default_cache

    given = dict(chosen)
    return JobConfig(options=taken_source_options(given), cache=default_cache(), **given)
