from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.settings import Settings, available_cores, explain


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATECAST_PORT", "1234")
    assert Settings().port == 1234


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "cpu,cpu", "cuda:1,cuda:0,cuda"])
def test_devices_that_can_be_named(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", "gpu"), ("device", "cuda:x"), ("device", "cpu,cuda:0"), ("device", "cuda:0,"), ("device", "auto,cpu"),
     ("port", "65536"), ("port", "http"), ("workers", "0"),
     ("max_pairs", "-1"), ("max_body_bytes", "16 MB"), ("log_level", "loud"), ("threads", "0")],
)  # fmt: skip
def test_an_invalid_value_is_explained_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RATECAST_{name.upper()}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    line = explain(caught.value)
    assert line.startswith(f"RATECAST_{name.upper()}: ")
    assert "\n" not in line


def test_workers_share_the_cores() -> None:
    assert Settings(workers=1).threads_per_worker() == available_cores()
    assert Settings(workers=256).threads_per_worker() == max(1, available_cores() // 256)
    assert Settings(workers=4, threads=3).threads_per_worker() == 3
