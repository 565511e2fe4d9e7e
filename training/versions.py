"""The commands that look after published versions. What they do is in `models/lifecycle.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from models import checkpoint, lifecycle
from models.errors import CheckpointNotFoundError
from models.manifest import Manifest

out = click.option("--out", type=click.Path(path_type=Path), required=True, help="The checkpoint directory.")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@out
@click.option("--no-activate", is_flag=True, help="Leave CURRENT as it is.")
def publish(source: Path, out: Path, *, no_activate: bool) -> None:
    """Publish a version made elsewhere: SOURCE is its directory, or one with a CURRENT, whose version is taken."""
    if (source / checkpoint.CURRENT).exists():
        source = source / checkpoint.current_version(source)
    if not source.is_dir():
        raise CheckpointNotFoundError(f"there is no checkpoint {source}")
    manifest = lifecycle.copy(source, out, current=not no_activate)
    click.echo(f"{manifest.version} is published in {out}" + ("" if no_activate else " and current"))


@click.command()
@click.argument("version")
@out
def activate(version: str, out: Path) -> None:
    """Make VERSION the current one. Services follow within two seconds."""
    lifecycle.activate(out, version)
    click.echo(f"{version} is current")


@click.command()
@out
def rollback(out: Path) -> None:
    """Make the version that was published before the current one current."""
    left, taken = lifecycle.rollback(out)
    click.echo(f"{taken} is current, {left} no longer")


@click.command("list")
@out
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(out: Path, *, as_json: bool) -> None:
    """List the published versions in the order of publication; * marks the current one."""
    current = checkpoint.current_version(out)
    known = checkpoint.published(out)
    unreadable = sorted(set(checkpoint.versions(out)) - {manifest.version for manifest in known})
    for manifest in known:
        row = _row(manifest, current)
        click.echo(json.dumps(row) if as_json else _line(row))
    for version in unreadable:
        click.echo(f"{version}: its manifest cannot be read", err=True)


@click.command()
@out
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the last versions stay.")
def prune(out: Path, keep: int) -> None:
    """Remove old versions, but never the current one or one that a service has loaded."""
    removed = lifecycle.prune(out, keep)
    click.echo("\n".join([*removed, f"{len(removed)} removed"]))


def _row(manifest: Manifest, current: str) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "created_at": f"{manifest.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "preset": manifest.trainer.preset,
        "rmse": manifest.metrics.get("rmse"),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "current": manifest.version == current,
    }


def _line(row: dict[str, Any]) -> str:
    error = "" if row["rmse"] is None else f"RMSE {row['rmse']:.4f}"
    mark, size = "*" if row["current"] else " ", f"{row['bytes'] / 1e6:,.1f} MB"
    return f"{mark} {row['version']}  {row['created_at']}  {row['preset']:<12}  {error:<11}  {size}"


COMMANDS = (publish, activate, rollback, list_, prune)
