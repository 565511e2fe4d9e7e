from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import torch
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.registry.directory import CURRENT, activate, current_version, publish
from tests.support.asgi import Caller, calling
from tests.support.checkpoints import edit_manifest


@pytest.fixture
def versions(tmp_path: Path, make_draft: Callable[..., Draft]) -> list[str]:
    """Two published versions; the first is the current one."""
    names = [publish(tmp_path, make_draft(seed)).version for seed in (1, 2)]
    activate(tmp_path, names[0])
    return names


@pytest.fixture
def call(tmp_path: Path, versions: list[str]) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        yield call


def test_the_current_model_is_what_its_manifest_says(client: httpx.Client, loaded: Checkpoint) -> None:
    served = client.get("/models/current").json()
    manifest = loaded.manifest.model_dump(mode="json")
    assert 0 <= served.pop("age_seconds") < 3600
    assert served.pop("device") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert served == {
        "version": manifest["version"],
        "created_at": manifest["created_at"],
        "shape": manifest["model"],
        "trainer": manifest["trainer"],
        "data": manifest["data"],
        "gate": manifest["gate"],
        "metrics": manifest["metrics"],
        "report": False,
    }


def test_the_published_models_are_listed_by_age_with_the_one_that_is_served(call: Caller, versions: list[str]) -> None:
    answer = json.loads(call("GET", "/models").body)
    assert answer["model_version"] == versions[0]
    assert [(model["version"], model["serving"]) for model in answer["models"]] == [
        (versions[0], True),
        (versions[1], False),
    ]
    assert answer["models"][0]["metrics"]["rmse"] == 1.5


def test_activating_serves_a_version_and_makes_it_current(call: Caller, tmp_path: Path, versions: list[str]) -> None:
    for version in (versions[1], versions[0]):
        answer = call("POST", f"/models/{version}/activate")
        assert (answer.status, json.loads(answer.body)) == (200, {"model_version": version})
        assert json.loads(call("GET", "/models/current").body)["version"] == current_version(tmp_path) == version


@pytest.mark.parametrize(
    ("version", "status", "kind"),
    [("nowhere", 404, "unknown-version"), (".hidden", 422, "invalid-request"), ("%2e%2e", 422, "invalid-request")],
)
def test_what_is_no_version_is_not_activated(
    call: Caller, tmp_path: Path, versions: list[str], version: str, status: int, kind: str
) -> None:
    answer = call("POST", f"/models/{version}/activate")
    assert (answer.status, json.loads(answer.body)["type"]) == (status, f"urn:ratecast:problem:{kind}")
    assert current_version(tmp_path) == versions[0]


def test_a_damaged_version_is_not_activated(call: Caller, tmp_path: Path, versions: list[str]) -> None:
    weights = tmp_path / versions[1] / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    answer = call("POST", f"/models/{versions[1]}/activate")
    assert (answer.status, json.loads(answer.body)["type"]) == (409, "urn:ratecast:problem:not-activated")
    assert "weights.safetensors" in json.loads(answer.body)["detail"]
    assert current_version(tmp_path) == versions[0]


def test_a_pinned_service_activates_nothing(tmp_path: Path, versions: list[str]) -> None:
    with calling(create_app(Settings(checkpoints=tmp_path, pinned_version=versions[1]))) as call:
        assert json.loads(call("GET", "/models/current").body)["version"] == versions[1]
        answer = call("POST", f"/models/{versions[0]}/activate")
        assert (answer.status, json.loads(answer.body)["type"]) == (409, "urn:ratecast:problem:not-activated")


def test_a_model_from_the_future_of_a_clock_that_was_wrong_has_no_negative_age(
    tmp_path: Path, versions: list[str]
) -> None:
    edit_manifest(tmp_path / versions[0], created_at=(datetime.now(UTC) + timedelta(days=400)).isoformat())
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        assert json.loads(call("GET", "/models/current").body)["age_seconds"] == 0


def test_what_could_not_be_served_is_named_by_the_readiness(call: Caller, tmp_path: Path, versions: list[str]) -> None:
    (tmp_path / CURRENT).write_text("nowhere")
    ready: dict[str, object] = {}
    while ready.get("failed_load") is None:
        call.wait(0.05)
        answer = call("GET", "/health/ready")
        ready = json.loads(answer.body)
        assert (answer.status, ready["status"], ready["model_version"]) == (200, "ready", versions[0])
    assert ready["failed_load"]["version"] == "nowhere"  # type: ignore[index]
    assert "nowhere" in ready["failed_load"]["reason"]  # type: ignore[index]


def test_the_readiness_tells_strangers_neither_what_is_wanted_nor_why_it_fails(
    tmp_path: Path, versions: list[str]
) -> None:
    """And nobody the path of the directory."""
    (tmp_path / CURRENT).unlink()
    (tmp_path / CURRENT).symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("s3cret")
    settings = Settings(checkpoints=tmp_path, pinned_version=None, api_keys=SecretStr("k" * 16))
    (tmp_path / "secret").write_text(versions[0])
    with calling(create_app(settings)) as call:
        for wanted, reason in (("s3cret", "no version 's3cret'"), ("s3cret s3cret", "does not hold the name")):
            (tmp_path / "secret").write_text(wanted)
            found: dict[str, object] = {}
            while reason not in str(found):
                call.wait(0.05)
                key = [("authorization", "Bearer " + "k" * 16)]
                found = json.loads(call("GET", "/health/ready", b"", key).body)["failed_load"] or {}
            assert str(tmp_path) not in str(found)
            told = call("GET", "/health/ready").body.decode()
            assert not any(part in told for part in ("s3cret", str(tmp_path), "does not hold"))
            assert json.loads(told)["failed_load"]["since"]
