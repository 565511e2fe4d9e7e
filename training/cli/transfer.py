"""`import` and `export-top`: ratings into a running service, and the lists of all users into a file."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from training.cli import output
from training.cli.help import Command, in_group, option
from training.cli.parameters import (
    checkpoints_option,
    complete_version,
    device_options,
    quiet_option,
    source_options,
    taken_source_options,
)

service_option = in_group("Service")


@click.command(
    "import", cls=Command, examples=("python -m training import --data ratings.csv --to http://127.0.0.1:8000",)
)
@source_options
@service_option("--to", "url", required=True, metavar="URL", help="The service that stores the ratings.")
@service_option(
    "--key",
    envvar="RATECAST_KEY",
    metavar="KEY",
    help="An API key that may change ratings [the variable RATECAST_KEY].",
)
@service_option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    show_default=False,
    metavar="N",
    help="Skip the first N ratings, which an interrupted import has already stored.",
)
@quiet_option
def import_ratings(
    data: tuple[str, ...], url: str, key: str | None, skip: int, quiet: bool, as_json: bool, **chosen: Any
) -> None:
    """Store the ratings of a data set in a running service. Importing them again changes nothing."""
    import numpy as np

    from models.urls import without_secrets
    from training import upload
    from training.data.dataset import load
    from training.data.fetch import default_cache
    from training.progress import counting, only_warnings

    rng = np.random.default_rng(0)
    with only_warnings() if quiet else nullcontext():
        ratings = load(data, taken_source_options(chosen), rng=rng, cache=default_cache()).ratings
    with counting(len(ratings), "ratings", quiet=quiet) as report:
        upload.upload(ratings, url, key, report, skip=skip)
    stored = max(0, len(ratings) - skip)
    service = without_secrets(url)
    output.answer({"ratings": stored, "service": service}, f"stored {stored:,} ratings in {service}", as_json=as_json)


@click.command(
    "export-top",
    cls=Command,
    examples=("python -m training export-top --checkpoints checkpoints --n 20 --out top.parquet",),
)
@checkpoints_option()
@option(
    "--version", metavar="VERSION", shell_complete=complete_version, help="The version to export [the current one]."
)
@option("--n", type=click.IntRange(min=1), metavar="N", default=20, help="Number of items per user.")
@option(
    "--rank-by",
    type=click.Choice(["relevance", "rating", "lower_bound"]),
    help="Order of the lists [relevance if the checkpoint has it, else rating].",
)
@option("--include-seen", is_flag=True, help="Also list items that the user has rated.")
@option("--genre", metavar="GENRE", help="List only items of this genre.")
@option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The file to write: Parquet, or CSV for a name that ends in .csv.",
)
@device_options
@quiet_option
def export_top(as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Write the top items of every user into a file with the columns user, rank, item and rating.

    The items can be distributed over several devices: `--device cuda:0,cuda:1`.
    """
    from models.registry.registry import open_registry
    from training import export
    from training.progress import counting

    with open_registry(chosen["checkpoints"]).local(chosen["version"]) as version:
        place = {"checkpoints": version.parent, "version": version.name}
        rows = export.run(partial(counting, quiet=quiet), **chosen | place)
    output.answer(
        {"rows": rows, "file": str(chosen["out"])}, f"wrote {rows:,} rows to {chosen['out']}", as_json=as_json
    )
