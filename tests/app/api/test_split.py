"""Two versions at once: each user is answered by one of them, every answer names it, and one call ends it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.engine import Engine
from app.engine.errors import SplitError
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.main import create_app
from app.settings import Settings
from models.devices import DevicePlacement
from models.registry.directory import current_split, load, publish, set_split
from models.registry.split import Split
from tests.support.asgi import Caller, ask, calling
from tests.support.checkpoints import edit_manifest
from tests.support.drafts import random_draft

USERS = [str(number) for number in range(1, 60)]


@pytest.fixture
def versions(tmp_path: Path) -> tuple[str, str]:
    """The current version, and another one."""
    current = publish(tmp_path, random_draft(seed=0)).version
    return current, publish(tmp_path, random_draft(seed=1), activate=False).version


@pytest.fixture
def call(versions: tuple[str, str], tmp_path: Path) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        yield call


def split(call: Caller, version: str, share: object, status: int = 200) -> Any:
    return ask(call, "PUT", "/models/split", {"version": version, "share": share}, status)


def predicted(call: Caller, user: str, version: str = "") -> tuple[float, str]:
    query = f"?model_version={version}" if version else ""
    found = ask(call, "POST", f"/predict{query}", {"user": user, "item": "3"})
    return found["rating"], found["model_version"]


def test_each_user_is_answered_by_one_version_in_every_kind_of_answer(call: Caller, versions: tuple[str, str]) -> None:
    current, other = versions
    alone = {user: predicted(call, user)[0] for user in USERS}
    assert split(call, other, 0.5) == {"version": other, "share": 0.5, "model_version": current}
    expected = {user: other if Split(other, 0.5).has(user) else current for user in USERS}
    assert set(expected.values()) == {current, other}
    for user, version in expected.items():
        rating, answering = predicted(call, user)
        assert (answering, rating) == (version, predicted(call, user, version)[0])
        assert predicted(call, user, current) == (alone[user], current)
        others = (
            ask(call, "GET", f"/users/{user}/top"),
            ask(call, "GET", f"/users/{user}/top?rank_by=rating&exclude_seen=false"),
            ask(call, "POST", "/recommend", {"users": [user]}),
            ask(call, "POST", "/predict", {"users": [user] * 3, "items": ["3", "4", "3"]}),
            ask(call, "POST", "/predict?intervals=true", {"user": user, "item": "3"}),
            ask(call, "GET", f"/users/{user}/ratings"),
        )
        assert [answer["model_version"] for answer in others] == [version] * len(others)
    ours = [user for user, version in expected.items() if version == other]
    together = ask(call, "POST", "/predict", {"users": ours, "items": ["3"] * len(ours)})
    assert (together["model_version"], together["ratings"]) == (other, [predicted(call, user)[0] for user in ours])
    mixed = ask(call, "POST", "/predict", {"users": USERS, "items": ["3"] * len(USERS)})
    assert (mixed["model_version"], mixed["ratings"]) == (current, [*alone.values()])
    assert ask(call, "POST", "/recommend", {"users": USERS, "n": 2})["model_version"] == current
    inline = {"item": "3", "ratings": [{"item": "4", "rating": 5}]}
    assert ask(call, "POST", "/predict", inline)["model_version"] == current
    assert ask(call, "POST", f"/predict?model_version={other}", inline)["model_version"] == other


def test_changes_of_ratings_name_the_version_that_answers_their_user(call: Caller, versions: tuple[str, str]) -> None:
    current, other = versions
    split(call, other, 0.5)
    for user in USERS[:8]:
        answers = (
            ask(call, "PUT", f"/users/{user}/ratings/3", {"rating": 4}),
            ask(call, "POST", "/ratings", {"users": [user], "items": ["4"], "ratings": [4]}),
            ask(call, "DELETE", f"/users/{user}/ratings/4"),
            ask(call, "DELETE", f"/users/{user}"),
        )
        expected = other if Split(other, 0.5).has(user) else current
        assert [answer["model_version"] for answer in answers] == [expected] * len(answers)
    many = {"users": USERS[:8], "items": ["4"] * 8, "ratings": [4] * 8}
    assert ask(call, "POST", "/ratings", many)["model_version"] == current


def test_because_explains_what_the_user_is_shown(call: Caller, versions: tuple[str, str]) -> None:
    split(call, versions[1], 0.5)
    for user in USERS[:8]:
        rating, version = predicted(call, user)
        if ask(call, "GET", f"/users/{user}/ratings")["ratings"]:
            because = ask(call, "GET", f"/users/{user}/because/3")
            assert (because["rating"], because["model_version"]) == (pytest.approx(rating, abs=1e-5), version)


def test_one_call_ends_a_split_for_either_version_and_doing_it_twice_is_doing_it_once(
    call: Caller, versions: tuple[str, str]
) -> None:
    current, other = versions
    split(call, other, 0.5)
    listed = ask(call, "GET", "/models")
    assert listed["split"] == {"version": other, "share": 0.5}
    assert [model["serving"] for model in listed["models"]] == [True, False]
    for _ in range(2):
        assert ask(call, "DELETE", "/models/split")["model_version"] == current
        assert {predicted(call, user)[1] for user in USERS} == {current}
        assert ask(call, "GET", "/models")["split"] is None
    ask(call, "GET", f"/users/1/top?model_version={other}", status=404)
    split(call, other, 0.5)
    for _ in range(2):
        assert ask(call, "DELETE", f"/models/split?version={other}")["model_version"] == other
        assert {predicted(call, user)[1] for user in USERS} == {other}
    assert ask(call, "POST", "/models/rollback")["model_version"] == current


def test_what_cannot_be_split_is_refused_and_changes_nothing(
    call: Caller, versions: tuple[str, str], tmp_path: Path
) -> None:
    current, other = versions
    for share in (0, 1, -0.1, 1.5, "0.1", None, True):
        split(call, other, share, status=422)
    split(call, "20200101T000000Z-none-000000", 0.1, status=404)
    split(call, "../x", 0.1, status=422)
    assert split(call, current, 0.1, status=409)["type"] == "urn:ratecast:problem:no-split"
    ask(call, "DELETE", f"/models/split?version={other}", status=409)
    edit_manifest(tmp_path / other, gate={"verdict": "refused", "reasons": ["worse"], "forced": True})
    assert split(call, other, 0.1, status=409)["type"] == "urn:ratecast:problem:needs-force"
    assert not (tmp_path / "SPLIT").exists()
    not_loaded = ask(call, "GET", f"/users/1/top?model_version={other}", status=404)
    assert not_loaded["type"] == "urn:ratecast:problem:version-not-loaded"
    forced = ask(call, "PUT", "/models/split?force=true", {"version": other, "share": 0.1})
    assert forced["version"] == other
    ask(call, "DELETE", f"/models/split?version={other}", status=409)
    assert ask(call, "DELETE", f"/models/split?version={other}&force=true")["model_version"] == other


def test_a_version_that_becomes_the_current_one_meanwhile_cannot_be_split(
    versions: tuple[str, str], tmp_path: Path
) -> None:
    """Whether it is the current one is looked at when nobody else changes versions any more."""
    _, other = versions

    async def main() -> None:
        engine = Engine(tmp_path, DevicePlacement(torch.device("cpu")), threads=1)
        try:
            await engine.versions.start()
            async with engine.versions.lock:
                activating = asyncio.create_task(engine.versions.activate(other))
                await asyncio.sleep(0)
                splitting = asyncio.create_task(engine.split.begin(Split(other, 0.5), force=False))
                await asyncio.sleep(0)
            await activating
            with pytest.raises(SplitError, match="is the current one"):
                await splitting
            assert engine.split.current is None
        finally:
            engine.close()

    asyncio.run(main())


def test_a_pinned_service_takes_no_part(versions: tuple[str, str], tmp_path: Path) -> None:
    current, other = versions
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        split(call, other, 0.5)
    with calling(create_app(Settings(checkpoints=tmp_path, pinned_version=current))) as call:
        assert {predicted(call, user)[1] for user in USERS} == {current}
        split(call, other, 0.5, status=409)


def test_a_split_of_the_settings_stays_whatever_the_file_and_requests_say(
    versions: tuple[str, str], tmp_path: Path
) -> None:
    current, other = versions
    third = publish(tmp_path, random_draft(seed=2), activate=False).version
    set_split(tmp_path, Split(third, 0.9))
    for pinned in (None, current):
        settings = Settings(checkpoints=tmp_path, split=f"{other} 0.5", pinned_version=pinned)
        with calling(create_app(settings)) as call:
            for _ in range(2):
                found = {user: predicted(call, user)[1] for user in USERS}
                assert found == {user: other if Split(other, 0.5).has(user) else current for user in USERS}
                call.wait(0.6)  # followers have looked
            assert split(call, third, 0.1, status=409)["type"] == "urn:ratecast:problem:no-split"
            ask(call, "DELETE", "/models/split", status=409)
    assert current_split(tmp_path) == Split(third, 0.9)


def test_another_service_and_a_restarted_one_split_alike(versions: tuple[str, str], tmp_path: Path) -> None:
    current, other = versions
    settings = Settings(checkpoints=tmp_path)
    with calling(create_app(settings)) as one, calling(create_app(settings)) as two:
        split(one, other, 0.5)
        expected = {user: predicted(one, user) for user in USERS}
        while {predicted(two, user)[1] for user in USERS} != {current, other}:
            two.wait(0.05)
        assert {user: predicted(two, user) for user in USERS} == expected
    with calling(create_app(settings)) as third:
        assert {user: predicted(third, user) for user in USERS} == expected
        newer = publish(tmp_path, random_draft(seed=2)).version
        while predicted(third, USERS[0])[1] == current or ask(third, "GET", "/health/ready")["model_version"] != newer:
            third.wait(0.05)
        found = {user: predicted(third, user)[1] for user in USERS}
        assert found == {user: version if version == other else newer for user, (_, version) in expected.items()}


def test_a_split_that_cannot_be_followed_leaves_everybody_to_the_current_version(
    call: Caller, versions: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current, other = versions
    split(call, other, 0.5)
    (tmp_path / "SPLIT").write_text("nonsense")
    while {predicted(call, user)[1] for user in USERS} != {current}:
        call.wait(0.05)
    call.wait(0.6)
    assert [record.message for record in caplog.records].count(
        "The split cannot be followed, so the current model answers all users: SPLIT does not contain the name of a "
        "version and a share between 0 and 1"
    ) == 1
    ask(call, "DELETE", "/models/split")
    assert not (tmp_path / "SPLIT").exists()
    split(call, other, 0.5)


def test_what_is_hidden_is_in_no_list_of_either_version(call: Caller, versions: tuple[str, str]) -> None:
    split(call, versions[1], 0.5)
    ask(call, "PATCH", "/items/3", {"hidden": True})
    for version in versions:
        for user in USERS[:5]:
            found = ask(call, "GET", f"/users/{user}/top?n=400&exclude_seen=false&model_version={version}")["items"]
            assert "3" not in [item["item"] for item in found]
            assert len(found) > 100


def test_live_errors_and_metrics_are_those_of_the_version_of_each_user(call: Caller, versions: tuple[str, str]) -> None:
    split(call, versions[1], 0.5)
    squares: dict[str, list[float]] = {version: [] for version in versions}
    for user in USERS[:20]:
        if "250" in [one["item"] for one in ask(call, "GET", f"/users/{user}/ratings")["ratings"]]:
            continue  # the model was fitted on it, so it does not count
        found = ask(call, "POST", "/predict", {"user": user, "item": "250"})
        ask(call, "PUT", f"/users/{user}/ratings/250", {"rating": 4})
        squares[found["model_version"]].append((found["rating"] - 4) ** 2)
    while (quality := ask(call, "GET", "/quality"))["waiting"]:
        call.wait(0.1)
    figures = {one["version"]: one for one in quality["figures"] if one["source"] == "all"}
    assert {version: one["ratings"] for version, one in figures.items()} == {
        version: len(errors) for version, errors in squares.items()
    }
    for version, errors in squares.items():
        assert figures[version]["rmse"] == pytest.approx((sum(errors) / len(errors)) ** 0.5, abs=1e-5)
    text = call("GET", "/metrics").body.decode()
    assert f'ratecast_split_share{{version="{versions[1]}"}} 0.5' in text
    for version in versions:
        assert f'ratecast_split_request_seconds_count{{version="{version}"}}' in text


def test_lists_and_ratings_of_a_request_with_ratings_count_for_the_version_that_answers(
    call: Caller, versions: tuple[str, str]
) -> None:
    split(call, versions[1], 0.5)
    before = requests_of(call)
    asked = {"ratings": [{"item": "3", "rating": 4}]}
    version = ask(call, "POST", "/recommend", asked)["model_version"]
    assert requests_of(call) == before | {version: before.get(version, 0) + 1}


def requests_of(call: Caller) -> dict[str, float]:
    """How many requests each version of a split has answered."""
    lines = call("GET", "/metrics").body.decode().splitlines()
    counts = [line for line in lines if line.startswith("ratecast_split_request_seconds_count{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in counts}


def test_an_export_is_of_one_version_though_another_becomes_current_meanwhile(
    call: Caller, versions: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(call, versions[1], 0.5)
    turns = count()

    def either(self: ModelHolder, *_: Any) -> ServingModel:
        return [*self.loaded][next(turns) % 2]

    monkeypatch.setattr(ModelHolder, "of_user", either)
    exports = [ask(call, "GET", "/users/7/export") for _ in range(2)]
    assert {found["model_version"] for found in exports} == {*versions}
    for found in exports:
        loaded = load(tmp_path, found["model_version"])
        assert found["row"]["bias"] == pytest.approx(float(loaded.model.user_bias[loaded.users.row("7")]))


def test_a_version_that_answers_nobody_any_more_takes_no_memory(
    call: Caller, versions: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[ServingModel]] = []
    build = ServingModel.__init__

    def noted(self: ServingModel, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        made.append(weakref.ref(self))

    monkeypatch.setattr(ServingModel, "__init__", noted)
    split(call, versions[1], 0.5)
    for user in USERS:
        ask(call, "GET", f"/users/{user}/top")
    ask(call, "PATCH", "/items/3", {"hidden": True})
    assert len(made) == 1
    ask(call, "DELETE", "/models/split")
    call.wait(0.1)
    gc.collect()
    assert made[0]() is None
