"""A roll-back goes to what was served before, in a directory and behind a URL alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.checkpoint.manifest import GateRecord
from models.errors import CheckpointNotFoundError, UnprovenVersionError
from models.registry import registry, served
from models.registry.directory import CURRENT, copy, publish
from models.registry.registry import DirectoryRegistry, Registry
from models.registry.remote import RemoteRegistry
from models.registry.served import SERVED
from tests.support.checkpoints import small_draft

REFUSED = GateRecord(verdict="refused", reasons=("worse",), forced=True)


@pytest.fixture(params=["directory", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """An empty registry."""
    directory = tmp_path / "registry"
    directory.mkdir()
    return DirectoryRegistry(directory) if request.param == "directory" else RemoteRegistry(f"file://{directory}")


def add(place: Registry, folder: Path, *, current: bool = True, **changes: object) -> str:
    made = folder / "made"
    return place.add(made / publish(made, small_draft(**changes)).version, current=current).version


def test_a_version_that_was_only_published_is_no_target(place: Registry, tmp_path: Path) -> None:
    first, _, third = (add(place, tmp_path, current=current) for current in (True, False, True))
    assert registry.rollback(place) == (third, first)
    with pytest.raises(CheckpointNotFoundError, match=f"served before {first}"):
        registry.rollback(place)
    assert place.current() == first


def test_each_roll_back_goes_one_further_along_what_was_served(place: Registry, tmp_path: Path) -> None:
    first, second, third = (add(place, tmp_path) for _ in range(3))
    registry.activate(place, first)
    assert place.served_before() == [first, second, third]
    assert registry.rollback(place) == (first, third)
    assert registry.rollback(place) == (third, second)
    assert registry.rollback(place) == (second, first)
    assert place.served_before() == []


def test_what_is_served_only_by_force_is_passed_over(place: Registry, tmp_path: Path) -> None:
    first, bad, third = add(place, tmp_path), add(place, tmp_path, gate=REFUSED), add(place, tmp_path)
    assert registry.previous(place) == first
    assert registry.previous(place, force=True) == bad
    with pytest.raises(UnprovenVersionError, match=r"refused by the quality gate \(worse\)"):
        registry.activate(place, bad)
    assert place.current() == third
    registry.activate(place, bad, force=True)
    assert place.current() == bad


def test_where_all_need_force_the_roll_back_says_so(place: Registry, tmp_path: Path) -> None:
    first = add(place, tmp_path, gate=GateRecord(verdict="not measured"))
    add(place, tmp_path)
    with pytest.raises(UnprovenVersionError, match=f"{first} is not measured: it is served only by force"):
        registry.rollback(place)
    assert registry.rollback(place, force=True)[1] == first


def test_a_version_behind_its_baseline_needs_force(place: Registry, tmp_path: Path) -> None:
    behind = add(place, tmp_path, metrics={"rmse": 1.02, "bias_rmse": 1.0})
    add(place, tmp_path, metrics={"rmse": 0.98, "bias_rmse": 1.0})
    with pytest.raises(UnprovenVersionError, match=r"behind its baseline \(RMSE 1\.0200, biases alone 1\.0000\)"):
        registry.activate(place, behind)


def test_a_version_that_was_pruned_is_passed_over(place: Registry, tmp_path: Path) -> None:
    first, second, third = (add(place, tmp_path) for _ in range(3))
    place.activate(first)
    assert place.prune(1) == [second]
    place.activate(third)
    assert place.served_before() == [first, second, third, first]
    assert registry.previous(place) == first


@pytest.mark.parametrize("text", ["a\nb\nc\n", "a\nb\n", "a\n"])
def test_a_list_that_was_written_before_current_gives_the_right_answer(tmp_path: Path, text: str) -> None:
    """A kill between the two: CURRENT says b, and the list is that of c, which was to follow, or of a roll-back."""
    (tmp_path / CURRENT).write_text("b\n")
    (tmp_path / SERVED).write_text(text)
    assert DirectoryRegistry(tmp_path).served_before() == ["a"]


def test_a_list_of_nonsense_or_none_is_none_and_a_copy_begins_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    version = publish(source, small_draft()).version
    for text in (b"\xff\xfe ../x \n", None):
        out = tmp_path / f"out{text is None}"
        copy(source / version, out)
        if text is None:
            (out / SERVED).unlink()
        else:
            (out / SERVED).write_bytes(text)
        assert DirectoryRegistry(out).served_before() == []


def test_only_the_latest_are_remembered() -> None:
    names = [f"v{number}" for number in range(150)]
    assert served.parse(served.to_text(names)) == names[-served.MOST :]
