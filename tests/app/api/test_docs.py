"""The documentation names everything there is."""

from __future__ import annotations

import pytest

from app.errors import KINDS, TYPE_PREFIX
from app.main import create_app
from app.settings import PREFIX, Settings
from tests.support import ROOT

DOCS = ROOT / "docs"
TEXT = "\n".join(path.read_text("utf-8") for path in sorted(DOCS.glob("*.md")))
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method in methods
]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_description(name: str) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{PREFIX}{name.upper()}` |")]
    assert str(Settings.model_fields[name].description) in row


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_endpoint_is_documented(operation: str) -> None:
    assert f"`{operation}`" in TEXT


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_of_problem_is_documented_with_its_status(kind) -> None:
    assert f"| `{TYPE_PREFIX}{kind.name}` | {kind.status} |" in TEXT
