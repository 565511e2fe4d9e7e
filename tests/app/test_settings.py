from __future__ import annotations

import os
from pathlib import Path

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
     ("split", "v"), ("split", "v 1"), ("split", "v nan"), ("split", "../v 0.1"), ("split", "0.1 v"),
     ("max_pairs", "-1"), ("max_body_bytes", "16 MB"), ("log_level", "loud"), ("threads", "0")],
)  # fmt: skip
def test_an_invalid_value_is_explained_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RATECAST_{name.upper()}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    line = explain(caught.value)
    assert line.startswith(f"RATECAST_{name.upper()}: ")
    assert "\n" not in line


def test_checkpoints_behind_a_url_are_kept_in_a_directory_of_this_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RATECAST_CACHE", str(tmp_path))
    url = "s3://bucket/models"
    one, other = Settings(checkpoints=url), Settings(checkpoints=f"{url}/test")
    assert one.directory().parent == other.directory().parent == tmp_path / "checkpoints"
    assert one.directory() != other.directory()
    assert Settings(checkpoints=url, checkpoint_cache=tmp_path / "mine").directory() == tmp_path / "mine"
    monkeypatch.delenv("RATECAST_CACHE")
    assert str(os.getuid()) in str(one.directory())
    assert one.checkpoint_sync() is not None


def test_a_directory_is_read_itself_and_only_there_ratings_are_kept_by_default(tmp_path: Path) -> None:
    assert Settings(checkpoints=tmp_path).directory() == tmp_path
    assert Settings(checkpoints=tmp_path).checkpoint_sync() is None
    assert Settings(checkpoints=tmp_path).store_url() == f"sqlite:///{tmp_path}/ratings.sqlite"
    assert Settings(checkpoints=f"file://{tmp_path}").store_url() is None


def test_workers_share_the_cores() -> None:
    assert Settings(workers=1).threads_per_worker() == available_cores()
    assert Settings(workers=256).threads_per_worker() == max(1, available_cores() // 256)
    assert Settings(workers=4, threads=3).threads_per_worker() == 3
