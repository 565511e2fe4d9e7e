"""Whose ratings changed, as every process of a service sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from app.ratings.revisions import LATEST, Revisions
from models.checkpoint.vocabulary import Vocabulary


def test_a_change_is_seen_by_whoever_shares_the_file(tmp_path: Path) -> None:
    ours, theirs = Revisions(tmp_path / "changes"), Revisions(tmp_path / "changes")
    assert (theirs.table[LATEST], theirs.table[theirs.slot_of("ü")]) == (0, 0)
    ours.mark([("ü", 7)])
    assert (theirs.table[LATEST], theirs.table[theirs.slot_of("ü")]) == (7, 7)
    assert theirs.table[theirs.slot_of("somebody else")] == 0


def test_a_slot_never_falls() -> None:
    changes = Revisions()
    changes.mark([("a", 9)])
    changes.mark([("a", 3), ("b", 4)])
    assert [changes.table[changes.slot_of(user)] for user in "ab"] == [9, 4]
    assert changes.table[LATEST] == 9


def test_of_many_slots_those_beyond_a_revision_are_found() -> None:
    changes = Revisions()
    changes.mark([("a", 5), ("c", 6)])
    slots = np.array([changes.slot_of(user) for user in "abcab"], np.int32)
    assert changes.changed_after(0, slots).tolist() == [0, 2, 3]
    assert changes.changed_after(5, slots).tolist() == [2]


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_a_vocabulary_has_the_slots_of_its_ids(users: set[str]) -> None:
    changes, ids = Revisions(), sorted(users)
    assert changes.slots_of(Vocabulary(pa.array(ids))).tolist() == [changes.slot_of(user) for user in ids]


def test_processes_that_mark_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each raises the same slots in its own order; the highest of each stays."""
    program = """
import sys
from pathlib import Path
from app.ratings.revisions import Revisions
changes = Revisions(Path(sys.argv[1]))
for revision in range(int(sys.argv[2]), 4000, 4):
    changes.mark([(f"u{revision % 7}", revision)])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "changes")]
    workers = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    changes = Revisions(tmp_path / "changes")
    wanted = [max(revision for revision in range(4000) if revision % 7 == user) for user in range(7)]
    assert [changes.table[changes.slot_of(f"u{user}")] for user in range(7)] == wanted
    assert changes.table[LATEST] == 3999
