"""The commands for published versions. `models/registry/registry.py` does most of their work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.cli import output
from training.cli.help import Command, option
from training.cli.parameters import checkpoints_option, complete_version

if TYPE_CHECKING:
    from models.checkpoint.manifest import Manifest

version_argument = click.argument("version", shell_complete=complete_version)
REPORT = "report/index.html"
force_option = option(
    "--force", is_flag=True, help="Serve it even if it was not measured, was refused or is behind its baseline."
)


@click.command(cls=Command, examples=("ratecast publish ../staging --out checkpoints",))
@click.argument("source")
@checkpoints_option("--out")
@option("--no-activate", is_flag=True, help="Publish the version without making it the current one.")
@force_option
def publish(source: str, checkpoints: str, no_activate: bool, force: bool, as_json: bool) -> None:
    """Publish an existing version. SOURCE is its path or URL, or a checkpoint directory with a current version."""
    from models.checkpoint.reader import read_manifest
    from models.registry.registry import check_proven, local_version, open_registry

    with local_version(source) as found:
        check_proven(read_manifest(found), force=force or no_activate)
        version = open_registry(checkpoints).add(found, current=not no_activate).version
    output.answer(
        {"version": version, "checkpoint": f"{checkpoints.rstrip('/')}/{version}", "current": not no_activate},
        f"{version} is published in {checkpoints}" + ("" if no_activate else " and current"),
        as_json=as_json,
    )


@click.command(cls=Command, examples=("ratecast activate 20260102T030405Z-1a2b3c --out checkpoints",))
@version_argument
@checkpoints_option("--out")
@force_option
def activate(version: str, checkpoints: str, force: bool, as_json: bool) -> None:
    """Make VERSION the current one. Services load it within two seconds."""
    from models.registry import registry

    registry.activate(registry.open_registry(checkpoints), version, force=force)
    output.answer({"current": version}, f"{version} is current", as_json=as_json)


@click.command(cls=Command)
@checkpoints_option("--out")
@force_option
def rollback(checkpoints: str, force: bool, as_json: bool) -> None:
    """Go back to the version that was served before the current one."""
    from models.registry import registry

    left, taken = registry.rollback(registry.open_registry(checkpoints), force=force)
    output.answer({"current": taken, "before": left}, f"{taken} is current instead of {left}", as_json=as_json)


@click.command(
    cls=Command,
    examples=(
        "ratecast split 20260102T030405Z-1a2b3c --share 0.1 --out checkpoints",
        "ratecast split --end --out checkpoints",
    ),
)
@click.argument("version", required=False, shell_complete=complete_version)
@checkpoints_option("--out")
@option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="The share of the users that VERSION answers.",
)
@option("--end", is_flag=True, help="End the split: the current version answers all users.")
@force_option
def split(version: str | None, checkpoints: str, share: float | None, end: bool, force: bool, as_json: bool) -> None:
    """Let VERSION answer a share of the users beside the current version. Services follow within two seconds."""
    from models.registry import registry
    from models.registry.split import Split

    if end == (version is not None) or (version is None) != (share is None):
        raise click.UsageError("give VERSION and --share, or --end")
    found = None if version is None or share is None else Split(version, share)
    registry.set_split(registry.open_registry(checkpoints), found, force=force)
    said = "the current version answers all users"
    if found is not None:
        said = f"{found.version} answers {100 * found.share:.4g} % of the users"
    output.answer({"version": version, "share": share}, said, as_json=as_json)


@click.command("list", cls=Command)
@checkpoints_option("--out")
def list_(checkpoints: str, as_json: bool) -> None:
    """List the published versions, oldest first; * marks the current one, ! those that need --force to be served.

    Versions are measured on different ratings: compare how far each is below its own baseline, not their errors.
    """
    from models.registry.registry import open_registry

    versions = open_registry(checkpoints)
    current = versions.current()
    known = [_row(manifest, current) for manifest in versions.published()]
    unreadable = sorted(set(versions.versions()) - {row["version"] for row in known})
    right = {"justify": "right", "no_wrap": True}
    columns: dict[str, dict[str, Any]] = {"": {}, "version": {}, "published": {}, "preset": {}}
    columns |= {"below baseline": right, "size": right, "note": {}}
    output.answer(
        {"current": current, "versions": known, "unreadable": unreadable},
        output.rows(columns, map(_line, known)),
        as_json=as_json,
    )
    for version in unreadable:
        click.echo(f"{version}: its manifest cannot be read", err=True)


@click.command(cls=Command, examples=("ratecast prune --keep 5 --out checkpoints",))
@checkpoints_option("--out")
@option("--keep", type=click.IntRange(min=1), metavar="N", required=True, help="Number of latest versions to keep.")
def prune(checkpoints: str, keep: int, as_json: bool) -> None:
    """Delete old versions, but never the current one or one that a service has loaded."""
    from models.registry.registry import open_registry

    removed = open_registry(checkpoints).prune(keep)
    output.answer({"removed": removed}, "\n".join([*removed, f"deleted {len(removed)} versions"]), as_json=as_json)


def _row(manifest: Manifest, current: str) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "created_at": f"{manifest.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "preset": manifest.trainer.preset,
        "rmse": manifest.metrics.get("rmse"),
        "below_baseline": manifest.gain,
        "concern": manifest.concern,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "current": manifest.version == current,
    }


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    mark = ("*" if row["current"] else "") + ("!" if row["concern"] else "")
    gain = "-" if row["below_baseline"] is None else f"{row['below_baseline']:.1%}"
    size, note = f"{row['bytes'] / 1e6:,.1f} MB", (row["concern"] or "").partition(" (")[0]
    return mark, row["version"], row["created_at"], row["preset"], gain, size, note


@click.command(cls=Command, examples=("ratecast report --checkpoints checkpoints --open",))
@checkpoints_option("--out")
@option(
    "--version", metavar="VERSION", shell_complete=complete_version, help="The version to report on [the current one]."
)
@option("--open", "open_", is_flag=True, help="Open the report in the browser.")
def report(checkpoints: str, version: str | None, open_: bool, as_json: bool) -> None:
    """Print the path of a version's report and its main figures."""
    import webbrowser

    from models.checkpoint import reader
    from models.errors import CheckpointNotFoundError
    from models.registry.directory import version_path
    from models.urls import is_url

    if is_url(checkpoints):
        raise click.UsageError(
            "reports are read from a directory, not from a URL; a service shows them at /models/VERSION/report"
        )
    path = version_path(Path(checkpoints), version)
    page = (path / REPORT).resolve()
    if not page.is_file():
        raise CheckpointNotFoundError(
            f"version {path.name} has no {REPORT}: fit and publish a model again to get a report"
        )
    facts = _facts(reader.read_manifest(path)) | {"report": str(page)}
    output.answer(facts, output.figures(facts), as_json=as_json)
    if open_ and not webbrowser.open(page.as_uri()):
        raise click.UsageError(f"no browser could be started: open {page} yourself")


def _facts(manifest: Manifest) -> dict[str, Any]:
    """The figures, named as `fit --json` names them."""
    data, model, trainer = manifest.data, manifest.model, manifest.trainer
    return {
        "dataset": data.name,
        "split": data.split,
        "users": model.users,
        "items": model.items,
        "train_ratings": data.train_ratings,
        "test_ratings": data.test_ratings,
        "preset": trainer.preset,
        "trainer": trainer.name,
        "seed": trainer.seed,
        "fit_seconds": trainer.fit_seconds,
        **manifest.metrics,
        "version": manifest.version,
    }
