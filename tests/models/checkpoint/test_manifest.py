"""What a manifest may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.checkpoint.manifest import FILE_NAME, VERSION_NAME, Manifest

ENTRY = {"sha256": "0" * 64, "bytes": 1}
CONTENT: dict[str, Any] = {
    "format_version": 6,
    "number": 1,
    "version": "20260101T000000Z-small-abcdef",
    "created_at": "2026-01-01T00:00:00Z",
    "model": {
        "users": 1,
        "items": 1,
        "factors": 0,
        "uncertainty": False,
        "relevance_factors": None,
        "relevance_rule": None,
        "rating_min": 1,
        "rating_max": 5,
    },
    "trainer": {
        "name": "bias",
        "preset": "bias",
        "settings": {"epochs": 1},
        "seed": 0,
        "device": "cpu",
        "threads": 1,
        "fit_seconds": 0.1,
    },
    "data": {
        "name": "d",
        "split": "none",
        "fingerprint": "f",
        "train_ratings": 1,
        "test_ratings": 0,
        "duplicates": 0,
        "rating_mean": 3.0,
        "rating_deviation": 1.0,
    },
    "gate": {"verdict": "passed", "reasons": [], "forced": False},
    "metrics": {"rmse": None},
    "files": {"users.arrow": ENTRY, "report/learning.svg": ENTRY},
}


def test_a_manifest_survives_a_round_trip() -> None:
    manifest = Manifest.model_validate_json(json.dumps(CONTENT))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize("key", [key for key in CONTENT if key != "format_version"])
def test_every_entry_is_required(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        Manifest.model_validate({name: value for name, value in CONTENT.items() if name != key})


BAD = [
    {"format_version": 1},
    {"version": "../other"},
    {"version": "v\n"},
    {"unexpected": 1},
    {"metrics": {"rmse": float("nan")}},
    {"metrics": {"rmse": float("inf")}},
    {"files": {"users.arrow": ENTRY | {"sha256": "0" * 63}}},
    {"files": {"users.arrow": ENTRY | {"sha256": "G" * 64}}},
    {"files": {"users.arrow": ENTRY | {"bytes": -1}}},
    *({"model": CONTENT["model"] | change} for change in ({"users": 0}, {"items": 0}, {"factors": -1})),
    *({"model": CONTENT["model"] | {"relevance_factors": bad}} for bad in (0, -1, 1.5, "many", False)),
    {"model": {key: value for key, value in CONTENT["model"].items() if key != "relevance_factors"}},
    {"model": CONTENT["model"] | {"rating_min": 6}},
    {"model": CONTENT["model"] | {"rating_max": float("inf")}},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_a_bad_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(CONTENT | change)


OUTSIDE = [
    "../x",
    "/etc/passwd",
    "a\\b",
    "report/../../x",
    "a/b/c",
    ".hidden",
    "report/.x",
    "",
    "report/",
    "a\0b",
    "x\n",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_name_that_is_not_plain_is_refused(name: str) -> None:
    assert FILE_NAME.fullmatch(name) is None
    with pytest.raises(ValidationError, match="not a file name inside a checkpoint"):
        Manifest.model_validate(CONTENT | {"files": {name: ENTRY}})


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "-a", "a" * 129, "a\n", "é"])
def test_a_version_name_that_is_not_plain_is_refused(name: str) -> None:
    assert VERSION_NAME.fullmatch(name) is None
