"""`datasets` and `presets`: the names that `--data` and `--preset` take."""

from __future__ import annotations

from typing import Any

import click

from training import constants
from training.cli import output
from training.cli.help import Command
from training.cli.parameters import one_of


@click.command(cls=Command)
@output.json_option
def datasets(as_json: bool) -> None:
    """List the data sets that `--data` knows by name."""
    from training.cli.tables import rows

    output.answer(
        {"datasets": [{"name": name, "summary": summary} for name, summary in constants.DATA_SETS.items()]},
        rows({"data set": {"no_wrap": True}, "contents": {}}, constants.DATA_SETS.items()),
        as_json=as_json,
    )


@click.command(cls=Command, examples=("python -m training presets", "python -m training presets als"))
@click.argument("preset", required=False, shell_complete=one_of(constants.preset_names(), or_file=True))
@output.json_option
def presets(preset: str | None, as_json: bool) -> None:
    """List the presets, or the settings of PRESET with their values and the values they accept."""
    if preset is None:
        _list(as_json)
    else:
        _show(preset, as_json)


def _list(as_json: bool) -> None:
    from training.cli.tables import rows

    found = {name: constants.preset_content(name) for name in constants.preset_names()}
    described = [
        {
            "name": name,
            "trainer": content["trainer"],
            "description": content["description"],
            "settings": constants.stated_settings(content),
        }
        for name, content in found.items()
    ]
    lines = [(row["name"], row["trainer"], f"{row['description']}\n{_settings(row['settings'])}") for row in described]
    columns: dict[str, dict[str, Any]] = {
        "preset": {"no_wrap": True},
        "trainer": {"no_wrap": True},
        "description": {"max_width": 72},
    }
    output.answer({"presets": described}, rows(columns, lines, spaced=True), as_json=as_json)


def _settings(stated: dict[str, Any]) -> str:
    return " ".join(f"{key}={_literal(value)}" for key, value in stated.items())


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show(name: str, as_json: bool) -> None:
    from training.cli.tables import rows
    from training.config import load_preset
    from training.settings import allowed

    preset = load_preset(name)
    owners = [("", preset.settings)] + ([("relevance.", preset.relevance)] if preset.relevance else [])
    settings = [
        {"name": prefix + key, "value": getattr(owner, key), "allowed": allowed(field)}
        for prefix, owner in owners
        for key, field in type(owner).model_fields.items()
    ]
    facts = {"name": preset.name, "trainer": preset.trainer, "description": preset.description, "settings": settings}
    lines = [(row["name"], _literal(row["value"]), row["allowed"]) for row in settings]
    output.answer(
        facts,
        f"{preset.name}: {preset.description} (trainer {preset.trainer})\n",
        rows({"setting": {"no_wrap": True}, "value": {"justify": "right"}, "accepts": {}}, lines),
        as_json=as_json,
    )
