"""A split of users over two versions, and what the directory and the registry behind a URL keep of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import CheckpointCorruptError, CheckpointNotFoundError
from models.registry import split as splits
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import activate, current_split, current_version, prune, publish, set_split, versions
from models.registry.remote import RemoteRegistry
from models.registry.split import SPLIT, Split
from tests.support.checkpoints import small_draft

USERS = [f"user {number}" for number in range(20_000)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for _ in range(3):
        publish(tmp_path / "checkpoints", small_draft())
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_the_share_of_the_users_is_in_the_split(share: float) -> None:
    split = Split("20261124T021910Z-bayes-6c8073", share)
    found = sum(map(split.has, USERS)) / len(USERS)
    assert abs(found - share) <= 0.005
    assert [*map(split.has, USERS)] == [*map(Split(*split).has, USERS)]


def test_who_is_in_a_split_stays_in_a_larger_one_and_is_another_in_that_of_another_version() -> None:
    small, large, other = Split("a", 0.1), Split("a", 0.2), Split("b", 0.1)
    assert all(large.has(user) for user in USERS if small.has(user))
    both = sum(small.has(user) and other.has(user) for user in USERS)
    assert 100 < both < 300


def test_strange_ids_have_their_place() -> None:
    assert {Split("a", 0.999999).has(id_) for id_ in ("", "\0", "\ud800", "é", "a/b")} == {True}


def test_a_split_is_kept_until_it_ends_or_its_version_is_the_current_one(directory: Path) -> None:
    first, second, third = sorted(versions(directory), key=lambda name: name)
    current = current_version(directory)
    other = next(name for name in (first, second, third) if name != current)
    assert current_split(directory) is None
    set_split(directory, Split(other, 0.1))
    assert current_split(directory) == Split(other, 0.1)
    set_split(directory, Split(other, 1 / 3))
    assert current_split(directory) == Split(other, 1 / 3)
    assert other not in prune(directory, 1)
    set_split(directory, None)
    assert current_split(directory) is None
    set_split(directory, Split(other, 0.5))
    activate(directory, other)
    assert (current_split(directory), (directory / SPLIT).exists()) == (None, False)


def test_a_version_that_is_not_there_is_refused(directory: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        set_split(directory, Split("20200101T000000Z-none-000000", 0.1))
    assert current_split(directory) is None


@pytest.mark.parametrize("text", ["", "a", "a 0", "a 1", "a nan", "a -1", "../a 0.5", "a b 0.5", "\xff 0.5"])
def test_a_file_that_names_no_split_is_refused(directory: Path, text: str) -> None:
    (directory / SPLIT).write_text(text, "latin-1")
    with pytest.raises(CheckpointCorruptError, match="does not contain the name of a version and a share"):
        splits.read(directory)
    assert splits.read_or_none(directory) is None
    prune(directory, 1)


def test_a_copy_of_a_registry_follows_its_split(directory: Path, tmp_path: Path) -> None:
    remote = RemoteRegistry(f"file://{directory}")
    current = remote.current()
    other = next(name for name in remote.versions() if name != current)
    sync = CheckpointSync(remote, tmp_path / "copy")
    sync.start()
    remote.set_split(Split(other, 0.25))
    assert sync.look() is None
    assert current_split(tmp_path / "copy") == remote.split() == Split(other, 0.25)
    assert set(versions(tmp_path / "copy")) == {current, other}
    assert other not in remote.prune(1)
    remote.make_current(other)
    assert sync.look() is None
    assert (current_version(tmp_path / "copy"), current_split(tmp_path / "copy"), remote.split()) == (other, None, None)
    remote.set_split(None)
