"""`datasets` and `presets`: the names that `--data` and `--preset` take."""

from __future__ import annotations

from typing import Any

import click

from training import constants
from training.cli import output
from training.cli.help import Command
from training.cli.parameters import one_of


@click.command(cls=Command)
def datasets(as_json: bool) -> None:
    """List the data sets that `--data` knows by name."""
    output.answer(
        {"datasets": [{"name": name, "summary": summary} for name, summary in constants.DATA_SETS.items()]},
        output.rows({"data set": {"no_wrap": True}, "contents": {}}, constants.DATA_SETS.items()),
        as_json=as_json,
    )


@click.command(cls=Command, examples=("ratecast presets", "ratecast presets als"))
@click.argument("preset", required=False, shell_complete=one_of(constants.preset_names(), or_file=True))
def presets(preset: str | None, as_json: bool) -> None:
    """List the presets, or the settings of PRESET: what they mean, their values, and the values they accept."""
    if preset is not None:
        _show(preset, as_json)
        return
    found = {name: constants.preset_content(name) for name in constants.preset_names()}
    described = [
        {"name": name}
        | {key: content[key] for key in ("trainer", "description")}
        | {"settings": constants.stated_settings(content)}
        for name, content in found.items()
    ]
    lines = []
    for row in described:
        stated = " ".join(f"{key}={_literal(value)}" for key, value in row["settings"].items())
        lines.append((row["name"], row["trainer"], f"{row['description']}\n{stated}"))
    whole = {"no_wrap": True}
    columns: dict[str, dict[str, Any]] = {"preset": whole, "trainer": whole, "description": {"max_width": 72}}
    output.answer({"presets": described}, output.rows(columns, lines, spaced=True), as_json=as_json)


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show(name: str, as_json: bool) -> None:
    from training.config import allowed, load_preset

    preset = load_preset(name)
    owners = [("", preset.settings)] + ([("relevance.", preset.relevance)] if preset.relevance else [])
    settings = [
        {"name": prefix + key, "value": getattr(owner, key), "meaning": field.description, "allowed": allowed(field)}
        for prefix, owner in owners
        for key, field in type(owner).model_fields.items()
    ]
    facts = {"name": preset.name, "trainer": preset.trainer, "description": preset.description, "settings": settings}
    lines = [(row["name"], _literal(row["value"]), row["meaning"] or "", row["allowed"]) for row in settings]
    output.answer(
        facts,
        f"{preset.name}: {preset.description} (trainer {preset.trainer})\n",
        output.rows({"setting": {"no_wrap": True}, "value": {"justify": "right"}, "means": {}, "accepts": {}}, lines),
        as_json=as_json,
    )
