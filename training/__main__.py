"""The command line of the offline job: `python -m training --help`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TextIO

import click
import numpy as np

from models.errors import RatecastError
from training import config, export, job, schedule, upload, versions
from training.data import movielens
from training.data.dataset import load
from training.data.fetch import default_cache
from training.errors import RefusedError
from training.progress import counting, progress
from training.ranks import is_first, started_by_torchrun

EXIT_BAD_INPUT, EXIT_REFUSED, EXIT_INTERRUPTED = 2, 3, 130  # the last is 128 + SIGINT, as shells report it


class Columns(click.ParamType[dict[str, str]]):
    """`user=userId,rating=stars` as a mapping."""

    name = "NAME=COLUMN,…"

    def convert(
        self, value: str | dict[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        pairs = [text.partition("=") for text in value.split(",")]
        if not all(name and column for name, _, column in pairs):
            self.fail(f"{value!r} is not NAME=COLUMN,NAME=COLUMN", param, ctx)
        return {name.strip(): column.strip() for name, _, column in pairs}


class Duration(click.ParamType[float]):
    """`30m`, `6h` or `1d`, in seconds."""

    name = "DURATION"
    units: ClassVar = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number, unit = value[:-1], value[-1:]
        if not number.isdigit() or int(number) == 0 or unit not in self.units:
            self.fail(f"{value!r} is not a duration like 30m, 6h or 1d", param, ctx)
        return float(int(number) * self.units[unit])


def job_options(default_split: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that `fit` and `evaluate` share."""
    options = (
        click.option("--data", required=True, help="A named data set, a file, a database URL, or synthetic:UxIxN."),
        click.option("--table", help="The table to read, where --data is a database URL."),
        click.option("--columns", type=Columns(), default={}, help="What the columns are called in the data."),
        click.option("--test", help="A file whose ratings are the test part; --split is then not used."),
        click.option(
            "--split", default=default_split, show_default=True, help="Hold out last-out, random:F, time:F or none."
        ),
        click.option("--preset", required=True, help="One of those that `presets` lists, or a .toml file."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable."),
        click.option(
            "--user-attributes",
            type=click.Path(path_type=Path),
            help="A .csv or .parquet file: id, then anything.",
        ),
        click.option("--item-attributes", type=click.Path(path_type=Path), help="The same for items."),
        click.option("--relevant", type=float, help="Rating from which an item is relevant [3/4 up the scale]."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes every choice."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads [all cores]."),
        click.option(
            "--resume",
            type=click.Path(path_type=Path),
            help="Keep the state of the fit in this file (directory under torchrun), and go on from it if interrupted.",
        ),
        click.option(
            "--save-every",
            type=click.FloatRange(min=0),
            default=config.SAVE_SECONDS,
            show_default=True,
            help="Least seconds between two saves of that state.",
        ),
        click.option(
            "--item-bytes",
            type=click.IntRange(min=1),
            help="Under torchrun: the most a copy of all items' rows may take on a rank [a quarter of what is free].",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout."),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(no_args_is_help=True)
def cli() -> None:
    """Fit a matrix factorization to ratings, evaluate it, and publish it for the service."""


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The checkpoint directory to publish to.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=config.DEFAULT_TOLERANCE,
    show_default=True,
    help="How much worse than the served model's RMSE is acceptable, relatively.",
)
@click.option("--no-activate", "activate", flag_value=False, default=True, help="Publish, and leave CURRENT as it is.")
@click.option("--warm-start", is_flag=True, help="Start from the current checkpoint where the trainer can.")
@click.option("--refit", is_flag=True, help="Publish a model of all ratings once one without the held-out has passed.")
@click.option("--every", type=Duration(), help="Fit again and again, so often: 30m, 6h, 1d. Failures are logged.")
@click.option("--force", is_flag=True, help="Publish even what the quality gate refuses; the manifest says so.")
@job_options(default_split="none")
def fit(as_json: bool, every: float | None, **options: Any) -> None:
    """Fit a model and publish it as the current checkpoint.

    With held-out ratings, a model that does not beat the preset `bias`, or is worse than the served one, is refused.
    """
    if every is not None and started_by_torchrun():
        raise click.UsageError("--every does not go with torchrun")
    if every is None:
        _run(as_json, options)
    else:
        schedule.repeat(every, lambda: _run(as_json, options))


@cli.command("import")
@click.option("--data", required=True, help="A named data set, a file, a database URL, or synthetic:UxIxN.")
@click.option("--table", help="The table to read, where --data is a database URL.")
@click.option("--columns", type=Columns(), default={}, help="What the columns are called in the data.")
@click.option("--to", "url", required=True, metavar="URL", help="The service whose store gets the ratings.")
@click.option("--key", envvar="RATECAST_KEY", help="A key that may change ratings [the variable RATECAST_KEY].")
def import_(data: str, table: str | None, columns: dict[str, str], url: str, key: str | None) -> None:
    """Put the ratings of a data set into the store of a running service. Done twice, it is done once."""
    rng = np.random.default_rng(0)
    ratings = load(data, table=table, columns=columns, rng=rng, cache=default_cache()).ratings
    with counting(len(ratings), "ratings") as report:
        upload.upload(ratings, url, key, report)
    click.echo(f"{len(ratings):,} ratings in the store of {url}")


@cli.command()
@job_options(default_split="last-out")
def evaluate(as_json: bool, **options: Any) -> None:
    """Fit a model and print its figures on held-out ratings. Publishes nothing."""
    _run(as_json, options)


@cli.command("export-top")
@click.option("--checkpoints", type=click.Path(path_type=Path), required=True, help="The checkpoint directory.")
@click.option("--version", help="The version to take [the current one].")
@click.option("--n", type=click.IntRange(min=1), default=20, show_default=True, help="Length of the lists.")
@click.option(
    "--rank-by",
    type=click.Choice(["relevance", "rating", "lower_bound"]),
    help="What orders the lists [relevance where the checkpoint has it, else rating].",
)
@click.option("--include-seen", is_flag=True, help="Also list what a user has rated.")
@click.option("--category", help="List items of this category (genre) only.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads [all cores].")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Parquet file to write.")
def export_top(**options: Any) -> None:
    """Write the best items of every user into a Parquet file: user, rank, item, rating."""
    rows = export.run(export.ExportConfig(**options), counting)
    click.echo(f"{rows:,} rows in {options['out']}")


@cli.command()
def datasets() -> None:
    """List the data sets that can be named."""
    _print_rows({name: named.summary for name, named in movielens.SETS.items()})


@cli.command()
def presets() -> None:
    """List the presets."""
    _print_rows({name: config.load_preset(name).description for name in config.preset_names()})


for command in versions.COMMANDS:
    cli.add_command(command)


def _run(as_json: bool, options: Mapping[str, Any]) -> None:
    with progress() as report:
        outcome = job.run(config.JobConfig(cache=default_cache(), **options), report)
    if not is_first():
        return
    if as_json:
        click.echo(json.dumps(outcome.figures))
    else:
        _print_rows({key: _readable(value) for key, value in outcome.figures.items() if value is not None})
    if outcome.refusal is not None:
        raise RefusedError(f"not published: {outcome.refusal} (--force publishes it all the same)")


def _readable(value: object) -> str:
    return f"{value:,.4f}" if isinstance(value, float) else str(value)


def _print_rows(rows: Mapping[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{name:<{width}}  {value}")


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: while a progress bar is shown, to the lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def main() -> int:
    """Run the command line and return its exit code: 0 done, 2 bad input, 3 refused, 130 interrupted. A bug raises."""
    level = logging.INFO if is_first() else logging.WARNING
    logging.basicConfig(handlers=[StderrHandler()], level=level, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        return EXIT_BAD_INPUT
    except RefusedError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_REFUSED
    except RatecastError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_BAD_INPUT
    except MemoryError:
        click.echo("error: not enough memory: take fewer ratings, or fewer factors", err=True)
        return EXIT_BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing was published", err=True)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
