"""The commands that look after published versions. What they do is in `models/shelf.py`."""

from __future__ import annotations

import json
from typing import Any

import click

from models import shelf
from models.manifest import Manifest

out = click.option("--out", required=True, help="The checkpoint directory, or the URL of one.")


@click.command()
@click.argument("source")
@out
@click.option("--no-activate", is_flag=True, help="Leave CURRENT as it is.")
def publish(source: str, out: str, *, no_activate: bool) -> None:
    """Publish a version made elsewhere: SOURCE is its path or URL, or that of a directory with a CURRENT."""
    with shelf.version_at(source) as version:
        manifest = shelf.at(out).put(version, current=not no_activate)
    click.echo(f"{manifest.version} is published in {out}" + ("" if no_activate else " and current"))


@click.command()
@click.argument("version")
@out
def activate(version: str, out: str) -> None:
    """Make VERSION the current one. Services follow within two seconds."""
    shelf.at(out).activate(version)
    click.echo(f"{version} is current")


@click.command()
@out
def rollback(out: str) -> None:
    """Make the version that was published before the current one current."""
    left, taken = shelf.at(out).rollback()
    click.echo(f"{taken} is current, {left} no longer")


@click.command("list")
@out
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(out: str, *, as_json: bool) -> None:
    """List the published versions in the order of publication; * marks the current one."""
    versions = shelf.at(out)
    current = versions.current()
    known = versions.published()
    unreadable = sorted(set(versions.versions()) - {manifest.version for manifest in known})
    for manifest in known:
        row = _row(manifest, current)
        click.echo(json.dumps(row) if as_json else _line(row))
    for version in unreadable:
        click.echo(f"{version}: its manifest cannot be read", err=True)


@click.command()
@out
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the last versions stay.")
def prune(out: str, keep: int) -> None:
    """Remove old versions, but never the current one or one that a service has loaded."""
    removed = shelf.at(out).prune(keep)
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
