"""The commands for published versions. `models/registry/registry.py` does their work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from training.cli import output
from training.cli.help import Command, option
from training.cli.parameters import checkpoints_option, complete_version

if TYPE_CHECKING:
    from models.checkpoint.manifest import Manifest

version_argument = click.argument("version", shell_complete=complete_version)
UNKNOWN = "-"


@click.command(cls=Command, examples=("python -m training publish ../staging --out checkpoints",))
@click.argument("source")
@checkpoints_option
@option("--no-activate", is_flag=True, help="Publish the version without making it the current one.")
@output.json_option
def publish(source: str, checkpoints: str, no_activate: bool, as_json: bool) -> None:
    """Publish an existing version. SOURCE is its path or URL, or a checkpoint directory with a current version."""
    from models.registry.registry import local_version, open_registry

    with local_version(source) as found:
        version = open_registry(checkpoints).add(found, current=not no_activate).version
    output.answer(
        {"version": version, "checkpoint": f"{checkpoints.rstrip('/')}/{version}", "current": not no_activate},
        f"{version} is published in {checkpoints}" + ("" if no_activate else " and current"),
        as_json=as_json,
    )


@click.command(cls=Command, examples=("python -m training activate 20260102T030405Z-1a2b3c --out checkpoints",))
@version_argument
@checkpoints_option
@output.json_option
def activate(version: str, checkpoints: str, as_json: bool) -> None:
    """Make VERSION the current one. Services load it within two seconds."""
    from models.registry.registry import open_registry

    open_registry(checkpoints).activate(version)
    output.answer({"current": version}, f"{version} is current", as_json=as_json)


@click.command(cls=Command)
@checkpoints_option
@output.json_option
def rollback(checkpoints: str, as_json: bool) -> None:
    """Go back to the version that was published before the current one."""
    from models.registry import registry

    left, taken = registry.rollback(registry.open_registry(checkpoints))
    output.answer({"current": taken, "before": left}, f"{taken} is current instead of {left}", as_json=as_json)


@click.command("list", cls=Command)
@checkpoints_option
@output.json_option
def list_(checkpoints: str, as_json: bool) -> None:
    """List the published versions, oldest first; * marks the current one."""
    from models.registry.registry import open_registry
    from training.cli.tables import rows

    versions = open_registry(checkpoints)
    current = versions.current()
    known = [_row(manifest, current) for manifest in versions.published()]
    unreadable = sorted(set(versions.versions()) - {row["version"] for row in known})
    right = {"justify": "right", "no_wrap": True}
    columns: dict[str, dict[str, Any]] = {"": {}, "version": {}, "published": {}, "preset": {}, "RMSE": right}
    output.answer(
        {"current": current, "versions": known, "unreadable": unreadable},
        rows(columns | {"size": right}, map(_line, known)),
        as_json=as_json,
    )
    for version in unreadable:
        click.echo(f"{version}: its manifest cannot be read", err=True)


@click.command(cls=Command, examples=("python -m training prune --keep 5 --out checkpoints",))
@checkpoints_option
@option("--keep", type=click.IntRange(min=1), metavar="N", required=True, help="Number of latest versions to keep.")
@output.json_option
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
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "current": manifest.version == current,
    }


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    mark, size = "*" if row["current"] else "", f"{row['bytes'] / 1e6:,.1f} MB"
    error = UNKNOWN if row["rmse"] is None else f"{row['rmse']:.4f}"
    return mark, row["version"], row["created_at"], row["preset"], error, size
