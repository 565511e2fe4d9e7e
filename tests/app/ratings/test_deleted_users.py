"""The file of deleted users, with whatever may stand in its place."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.ratings.deleted_users import FILE, DeletedUsers
from app.ratings.revisions import Revisions
from tests.support.colliding_ids import colliding_ids

STORE = "0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


def test_what_one_process_notes_all_know_once(file: Path) -> None:
    ours, theirs = DeletedUsers(file), DeletedUsers(file)
    for deleted in (ours, theirs, DeletedUsers(file)):
        deleted.add(STORE, [("u", 5), ("ü/\ud800", 6)])
    assert len(file.read_bytes().splitlines()) == 2
    theirs.add(STORE, [("u", 9)])
    for deleted in (ours, theirs, DeletedUsers(file)):
        assert [deleted.last(user, None, 0) for user in ("u", "ü/\ud800", "v")] == [9, 6, 0]


def test_a_deletion_that_a_model_knows_does_not_count(file: Path) -> None:
    deleted = DeletedUsers(file)
    deleted.add(STORE, [("u", 5)])
    assert [deleted.last("u", STORE, revision) for revision in (4, 5, 6)] == [5, 0, 0]
    assert deleted.last("u", "another store", 6) == 5


def test_who_may_have_been_deleted_is_found_in_a_batch(file: Path) -> None:
    revisions, deleted = Revisions(), DeletedUsers(file)
    slots = np.array([revisions.slot_of(user) for user in "uvw"], np.int32)
    assert deleted.possible(slots).tolist() == []
    DeletedUsers(file).add(STORE, [("v", 5)])
    assert deleted.possible(slots).tolist() == [1]


def test_the_file_has_no_ids(file: Path) -> None:
    DeletedUsers(file).add(STORE, [("somebody@example.org", 5)])
    assert b"somebody" not in file.read_bytes()


def test_lines_that_are_broken_are_passed_over(file: Path) -> None:
    file.write_bytes(b"garbage \xff\n" + STORE.encode() + b" 7 00")
    deleted = DeletedUsers(file)
    deleted.add(STORE, [("u", 5)])
    assert DeletedUsers(file).last("u", None, 0) == 5


@pytest.mark.parametrize("place", ["pipe", "link", "folder"])
def test_what_is_no_plain_file_is_said_once_and_holds_nobody_up(
    file: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to(path.parent / "other"), "folder": os.mkdir}[place](file)
    deleted = DeletedUsers(file)
    with caplog.at_level(logging.WARNING):
        deleted.add(STORE, [("u", 5)])
        deleted.add(STORE, [("u", 6)])
    assert len(caplog.records) == 1
    assert deleted.last("u", None, 0) == 6
    assert not (file.parent / "other").exists()


def test_a_full_disk_loses_what_is_written_then_and_nothing_else(file: Path) -> None:
    DeletedUsers(file).add(STORE, [("u", 5)])
    full = f"""
import resource, signal
from app.ratings.deleted_users import DeletedUsers
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({file.stat().st_size + 3},) * 2)
DeletedUsers(Path({str(file)!r})).add({STORE!r}, [("v", 6)])
"""
    assert (
        "cannot be used"
        in subprocess.run([sys.executable, "-c", full], stderr=subprocess.PIPE, text=True, check=True).stderr
    )
    DeletedUsers(file).add(STORE, [("w", 7)])
    deleted = DeletedUsers(file)
    assert [deleted.last(user, None, 0) for user in "uvw"] == [5, 0, 7]


def test_who_shares_the_hash_of_a_deleted_user_is_not_deleted(tmp_path: Path) -> None:
    """Somebody may choose an id that has another one's hash, and have themselves deleted."""
    deleted, other = colliding_ids(2)
    for users in (DeletedUsers(tmp_path / FILE), DeletedUsers(tmp_path / FILE)):
        users.add("store", [(deleted, 5)])
        assert (users.last(deleted, None, 0), users.last(other, None, 0)) == (5, 0)
