"""Names and defaults of the command line, without slow imports: help and completion need them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from models.did_you_mean import did_you_mean
from training.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
RELEVANCE = "relevance"
SPLITS = ("last-out", "random:F", "time:F", "none")
DEFAULT_TOLERANCE = 0.01  # refits of one preset on ml-100k with other seeds differ by up to 0.6 %
SAVE_SECONDS = 10.0  # of a fit, at most, are lost by an interruption

DATA_SETS = {
    "ml-100k": "100,000 ratings by 943 users of 1,682 films, 1997-1998, with ages and occupations",
    "ml-1m": "1,000,209 ratings by 6,040 users of 3,706 films, 2000-2003, with ages and occupations",
    "ml-10m": "10,000,054 ratings by 69,878 users of 10,677 films, 1995-2009",
    "ml-25m": "25,000,095 ratings by 162,541 users of 59,047 films, 1995-2019",
    "ml-32m": "32,000,204 ratings by 200,948 users of 84,432 films, 1995-2023",
    "ml-latest-small": "100,836 ratings by 610 users of 9,724 films, 1996-2018",
}


def preset_names() -> list[str]:
    """Names of the presets that come with Ratecast."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_file(name: str) -> Path:
    """The file of a preset that comes with Ratecast, or `name` itself if it ends in .toml.

    Raises ConfigError for any other name.
    """
    if name.endswith(".toml"):
        return Path(name)
    if name not in (known := preset_names()):
        raise ConfigError(
            f"no preset {name!r}; there are {', '.join(known)}, and .toml files{did_you_mean(name, known)}"
        )
    return PRESETS / f"{name}.toml"


def preset_content(name: str) -> dict[str, Any]:
    """The content of a preset, unchecked. Raises ConfigError, OSError or ValueError if it cannot be read."""
    return tomllib.loads(preset_file(name).read_text("utf-8"))


def stated_settings(content: dict[str, Any]) -> dict[str, Any]:
    """The settings that a preset states, under the names that `--set` takes."""
    head = {f"{RELEVANCE}.{key}": value for key, value in content.get(RELEVANCE, {}).items()}
    return dict(content.get("settings", {})) | head
