"""`import`: store the ratings of a data set in a running service."""

from __future__ import annotations

import click

from training.cli import output
from training.cli.help import Command, in_group
from training.cli.parameters import quiet_option, source_options

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
@quiet_option
@output.json_option
def import_ratings(
    data: str, table: str | None, columns: dict[str, str], url: str, key: str | None, quiet: bool, as_json: bool
) -> None:
    """Store the ratings of a data set in a running service. Importing them again changes nothing."""
    import numpy as np

    from training import upload
    from training.data.dataset import load
    from training.data.fetch import default_cache
    from training.progress import counting

    rng = np.random.default_rng(0)
    ratings = load(data, table=table, columns=columns, rng=rng, cache=default_cache()).ratings
    with counting(len(ratings), "ratings", quiet=quiet) as report:
        upload.upload(ratings, url, key, report)
    output.answer(
        {"ratings": len(ratings), "service": url}, f"stored {len(ratings):,} ratings in {url}", as_json=as_json
    )
