"""`export-top`: write the lists of all users into a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from training.cli import output
from training.cli.help import Command, option
from training.cli.parameters import (
    CHECKPOINTS_VARIABLE,
    complete_directory,
    complete_version,
    device_options,
    quiet_option,
)


@click.command(
    "export-top",
    cls=Command,
    examples=("python -m training export-top --checkpoints checkpoints --n 20 --out top.parquet",),
)
@option(
    "--checkpoints",
    metavar="DIR",
    envvar=CHECKPOINTS_VARIABLE,
    required=True,
    is_eager=True,
    shell_complete=complete_directory,
    help=f"The checkpoint directory or its URL [the variable {CHECKPOINTS_VARIABLE}].",
)
@option(
    "--version", metavar="VERSION", shell_complete=complete_version, help="The version to export [the current one]."
)
@option("--n", type=click.IntRange(min=1), metavar="N", default=20, show_default=True, help="Number of items per user.")
@option(
    "--rank-by",
    type=click.Choice(["relevance", "rating", "lower_bound"]),
    help="Order of the lists [relevance if the checkpoint has it, else rating].",
)
@option("--include-seen", is_flag=True, help="Also list items that the user has rated.")
@option("--category", metavar="GENRE", help="List only items of this category (genre).")
@option("--out", type=click.Path(path_type=Path), metavar="FILE", required=True, help="The Parquet file to write.")
@device_options
@quiet_option
@output.json_option
def export_top(as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Write the top items of every user into a Parquet file with the columns user, rank, item and rating.

    The items can be distributed over several devices: `--device cuda:0,cuda:1`.
    """
    from models.registry.registry import open_registry
    from training import export
    from training.progress import counting

    with open_registry(chosen["checkpoints"]).local(chosen["version"]) as version:
        place = {"checkpoints": version.parent, "version": version.name}
        rows = export.run(export.ExportConfig(**chosen | place), partial(counting, quiet=quiet))
    output.answer(
        {"rows": rows, "file": str(chosen["out"])}, f"wrote {rows:,} rows to {chosen['out']}", as_json=as_json
    )
