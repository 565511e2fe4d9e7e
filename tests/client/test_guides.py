"""The programs in the client's guides run as they stand, one after the other, against a service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ratecast_client import Client, errors

from tests.support import ROOT

GUIDES = ROOT / "docs/client.md", ROOT / "client/README.md"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_program_runs_by_itself(guide: Path, service: str) -> None:
    programs = re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    assert programs
    for program in programs:
        exec(compile(program.replace("http://127.0.0.1:8000", service), str(guide), "exec"), {"__name__": "__main__"})  # noqa: S102


def test_every_method_and_error_is_in_the_guide() -> None:
    text = GUIDES[0].read_text("utf-8")
    methods = [name for name, value in vars(Client).items() if callable(value) and not name.startswith("_")]
    classes = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.RatecastError)
    ]
    assert len(methods) > 20
    assert [name for name in [*methods, *classes] if f"`{name}" not in text and name != "close"] == []
