"""`report`: the path of a version's report, and its main figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.cli import output
from training.cli.help import Command, option
from training.cli.parameters import checkpoints_option, complete_version

if TYPE_CHECKING:
    from models.checkpoint.manifest import Manifest

PAGE = "report/index.html"


@click.command(cls=Command, examples=("python -m training report --checkpoints checkpoints --open",))
@checkpoints_option
@option(
    "--version", metavar="VERSION", shell_complete=complete_version, help="The version to report on [the current one]."
)
@option("--open", "open_", is_flag=True, help="Open the report in the browser.")
@output.json_option
def report(checkpoints: str, version: str | None, open_: bool, as_json: bool) -> None:
    """Print the path of a version's report and its main figures."""
    import webbrowser

    from models.checkpoint import reader
    from models.did_you_mean import did_you_mean
    from models.errors import CheckpointNotFoundError
    from models.registry.directory import current_version, versions
    from models.urls import is_url
    from training.cli.tables import figures

    if is_url(checkpoints):
        raise click.UsageError(
            "reports are read from a directory, not from a URL; a service shows them at /models/VERSION/report"
        )
    directory = Path(checkpoints)
    version = version or current_version(directory)
    if version not in (known := versions(directory)):
        raise CheckpointNotFoundError(f"no version {version!r} in {checkpoints}{did_you_mean(version, known)}")
    page = (directory / version / PAGE).resolve()
    if not page.is_file():
        raise CheckpointNotFoundError(f"version {version} has no {PAGE}: fit and publish a model again to get a report")
    facts = _facts(reader.read_manifest(directory / version), str(page))
    output.answer(facts, figures(facts), as_json=as_json)
    if open_ and not webbrowser.open(page.as_uri()):
        raise click.UsageError(f"no browser could be started: open {page} yourself")


def _facts(manifest: Manifest, page: str) -> dict[str, Any]:
    """The figures, named as `fit --json` names them."""
    data, trainer = manifest.data, manifest.trainer
    return {
        "dataset": data.name,
        "split": data.split,
        "users": manifest.model.users,
        "items": manifest.model.items,
        "train_ratings": data.train_ratings,
        "test_ratings": data.test_ratings,
        "preset": trainer.preset,
        "trainer": trainer.name,
        "seed": trainer.seed,
        "fit_seconds": trainer.fit_seconds,
        **manifest.metrics,
        "version": manifest.version,
        "report": page,
    }
