"""`import` and `export`: ratings or items into a running service; lists or ratings into a file."""

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
    item_options,
    quiet_option,
    reading_options,
    source_option,
    taken_source_options,
)

service_option, store_option = in_group("Service"), in_group("Store")


@click.command(
    "import",
    cls=Command,
    examples=(
        "ratecast import --data ratings.csv --to http://127.0.0.1:8000",
        "ratecast import --items movies.csv --to http://127.0.0.1:8000",
    ),
)
@source_option(required=False)
@reading_options
@item_options
@service_option("--to", "url", required=True, metavar="URL", help="The service that stores them.")
@service_option(
    "--key",
    envvar="RATECAST_KEY",
    metavar="KEY",
    help="An API key that may change ratings or items [the variable RATECAST_KEY].",
)
@service_option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    show_default=False,
    metavar="N",
    help="Skip the first N ratings or items, which an interrupted import has already stored.",
)
@quiet_option
def import_(
    data: tuple[str, ...],
    items: str | None,
    item_columns: dict[str, str],
    url: str,
    key: str | None,
    skip: int,
    quiet: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Store the ratings of a data set (--data), or a catalogue (--items), in a running service.

    Importing the same ratings again changes nothing. An item is stored in place of all that is known of it; the file
    may also have the columns hidden, available_from and available_until.
    """
    if bool(data) == bool(items):
        raise click.UsageError("give --data for ratings or --items for a catalogue, one at a time")
    import numpy as np

    from models.urls import without_secrets
    from training import upload
    from training.data.dataset import load
    from training.data.described import read_items
    from training.data.fetch import default_cache
    from training.progress import counting, only_warnings

    content: upload.Content
    rng, options = np.random.default_rng(0), taken_source_options(chosen)
    with only_warnings() if quiet else nullcontext():
        if items is None:
            content = upload.Ratings(load(data, options, rng=rng, cache=default_cache(), fitted=False).ratings)
        else:
            content = upload.Items(read_items(items, item_columns, options))
    with counting(len(content), content.kind, quiet=quiet) as report:
        upload.upload(content, url, key, report, skip=skip)
    stored = max(0, len(content) - skip)
    service = without_secrets(url)
    output.answer(
        {content.kind: stored, "service": service}, f"stored {stored:,} {content.kind} in {service}", as_json=as_json
    )


@click.command(
    cls=Command,
    examples=(
        "ratecast export --checkpoints checkpoints --n 20 --out top.parquet",
        "ratecast export --ratings --store sqlite:///checkpoints/ratings.sqlite --out ratings.csv",
    ),
)
@checkpoints_option(required=False)
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
@store_option(
    "--store",
    "store_url",
    metavar="URL",
    help="The service's ratings store: what is hidden or not available there is in no list; deleted users have none.",
)
@store_option("--ratings", is_flag=True, help="Write the ratings of the store instead of lists.")
@store_option("--user", metavar="USER", help="With --ratings: write only those of this user.")
@device_options
@quiet_option
def export(
    as_json: bool, quiet: bool, ratings: bool, user: str | None, store_url: str | None, out: Path, **chosen: Any
) -> None:
    """Write the top items of every user into a file with the columns user, rank, item and rating.

    The items can be distributed over several devices: `--device cuda:0,cuda:1`. With --ratings the file has the ratings
    of a store: user, item, rating and timestamp.
    """
    from models.registry.registry import open_registry
    from training import export as export_lists
    from training import export_ratings
    from training.progress import counting

    if ratings:
        if store_url is None:
            raise click.UsageError("--ratings needs --store: the ratings store of the service")
        rows = export_ratings.run(store_url, out, user)
    elif chosen["checkpoints"] is None:
        raise click.UsageError("give --checkpoints for lists, or --ratings for the ratings of a store")
    elif user is not None:
        raise click.UsageError("--user goes with --ratings")
    else:
        with open_registry(chosen["checkpoints"]).local(chosen["version"]) as version:
            place = {"checkpoints": version.parent, "version": version.name}
            rows = export_lists.run(partial(counting, quiet=quiet), out=out, store_url=store_url, **chosen | place)
    output.answer({"rows": rows, "file": str(out)}, f"wrote {rows:,} rows to {out}", as_json=as_json)
