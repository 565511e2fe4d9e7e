"""Writes a preset as a TOML file that `--preset FILE` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from training.config import Preset
from training.constants import RELEVANCE
from training.errors import ConfigError

WRITTEN = "# Written by `ratecast tune`"


def check_writable(path: Path) -> None:
    """Raise ConfigError for a name that is no preset's, a folder that is missing, and a file of somebody else's."""
    if path.suffix != ".toml":
        raise ConfigError(f"--out {path}: the name of a preset file ends in .toml")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}")
    if path.is_dir() or (path.exists() and not _is_ours(path)):
        raise ConfigError(f"--out {path}: it exists, and tune did not write it; choose another name")


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text("utf-8", "replace").startswith(WRITTEN)
    except OSError:
        return False


def write_preset(path: Path, preset: Preset, remarks: Sequence[str]) -> None:
    """Write the file, whole or not at all. Raises ConfigError if it cannot be written."""
    parts: list[tuple[str, Mapping[str, Any]]] = [("settings", preset.settings.model_dump(mode="json"))]
    if preset.relevance is not None:
        parts.append((RELEVANCE, preset.relevance.model_dump(mode="json")))
    parts.append(("tune", {key: values.content() for key, values in preset.space.items()}))
    lines = [
        f"{WRITTEN}: {remarks[0]}",
        *(f"# {remark}" for remark in remarks[1:]),
        f"description = {toml(preset.description)}",
        f"trainer = {toml(preset.trainer)}",
    ]
    for title, table in parts:
        if table:
            lines += ["", f"[{title}]", *(f"{toml_key(key)} = {toml(value)}" for key, value in table.items())]
    try:
        with NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        part = Path(file.name)
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror}") from error


def toml_key(key: str) -> str:
    return key if key.isidentifier() else toml(key)


def toml(value: Any) -> str:
    """A value as TOML has it: true, a number, a text, a list or an inline table."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
