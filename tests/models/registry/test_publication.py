"""A checkpoint is published whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoint.files import MANIFEST, hash_file
from models.errors import PublicationError
from models.registry.directory import CURRENT, LOCK, activate, load, publish, versions
from models.registry.served import SERVED
from tests.support.checkpoints import small_draft
from tests.support.forks import ROOT, Nursery

PUBLISHER = "tests.support.publisher"


@pytest.fixture
def umask() -> Iterator[None]:
    """Files that this process makes are for its own account alone."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_the_new_version_is_current_and_the_old_one_stays(tmp_path: Path) -> None:
    first, second = (publish(tmp_path, small_draft()).version for _ in range(2))
    assert load(tmp_path).version == second
    assert load(tmp_path, first).version == first
    assert names(tmp_path) == {first, second, CURRENT, SERVED, LOCK}


def test_an_older_version_can_be_made_current(tmp_path: Path) -> None:
    first, _ = (publish(tmp_path, small_draft()).version for _ in range(2))
    activate(tmp_path, first)
    assert load(tmp_path).version == first


def test_the_manifest_lists_every_other_file_with_its_hash(tmp_path: Path) -> None:
    draft = small_draft(write_report=lambda path: (path / "learning.svg").write_text("<svg/>"))
    version = tmp_path / publish(tmp_path, draft).version
    files = {str(file.relative_to(version)) for file in version.rglob("*") if file.is_file()}
    listed = load(tmp_path).manifest.files
    assert set(listed) == files - {MANIFEST}
    assert all(hash_file(version / name) == entry.sha256 for name, entry in listed.items())


@pytest.mark.usefixtures("umask")
def test_other_accounts_can_read_what_was_published(tmp_path: Path) -> None:
    version = tmp_path / publish(tmp_path, small_draft()).version
    paths = [version, *version.rglob("*"), tmp_path / CURRENT]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert modes == {path.name: 0o755 if path.is_dir() else 0o644 for path in paths}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_an_exception_in_the_report_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted(path: Path) -> None:
        (path / "learning.svg").write_text("<svg")
        raise error

    with pytest.raises(error):
        publish(tmp_path, small_draft(write_report=interrupted))
    assert names(tmp_path) == {LOCK}


def test_a_directory_that_cannot_be_made_is_a_publication_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PublicationError, match=r"cannot publish to .*file/out: .*; nothing was published"):
        publish(tmp_path / "file" / "out", small_draft())


def test_publishers_at_once_wait_for_each_other(tmp_path: Path, nursery: Nursery) -> None:
    children = nursery.run_at_once([(PUBLISHER, tmp_path, 5)] * 4)
    published = [version for child in children for version in child.stdout.split()]
    assert [(child.code, child.stderr) for child in children] == [(0, "")] * 4
    assert len(set(published)) == 20
    assert names(tmp_path) == {*published, CURRENT, SERVED, LOCK}
    assert all(load(tmp_path, version).version == version for version in published)
    assert load(tmp_path).version in {child.stdout.split()[-1] for child in children}


@pytest.mark.slow
def test_a_publisher_killed_at_any_point_leaves_the_current_version_and_no_litter(
    tmp_path: Path, nursery: Nursery
) -> None:
    """A new process is killed before its first change to the file system, the next before its second, and so on."""
    before = publish(tmp_path, small_draft()).version
    replaced = []
    while (child := nursery.run(PUBLISHER, tmp_path, 1, len(replaced))).code == -signal.SIGKILL:
        replaced.append(load(tmp_path).version != before)
    assert len(replaced) > 5
    assert replaced == sorted(replaced)
    assert (child.code, child.stderr) == (0, "")
    assert load(tmp_path).version == child.stdout.strip()
    assert all(load(tmp_path, version).version == version for version in versions(tmp_path))
    assert names(tmp_path) == {*versions(tmp_path), CURRENT, SERVED, LOCK}


@pytest.mark.parametrize(("action", "least"), [("publish", 6), ("copy", 6), ("activate", 1)])
def test_a_disk_that_is_full_or_read_only_keeps_the_versions_it_has(tmp_path: Path, action: str, least: int) -> None:
    command = ["unshare", "-rm", sys.executable, "-m", "tests.support.small_disk", str(tmp_path), action]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    outcome = json.loads(done.stdout)
    *full, enough = outcome["full"]
    assert len(full) >= least
    before = full[0]["versions"]
    for attempt in full:
        assert re.search("No space left on device.*; nothing was (published|changed)", attempt["error"])
        assert attempt | {"error": ""} == {"error": "", "current": outcome["first"], "versions": before, "left": []}
    assert enough["error"] is None
    assert enough["current"] != outcome["first"]
    assert {outcome["first"], enough["current"]} <= set(enough["versions"])
    assert "Read-only file system; nothing was" in outcome["read_only"]["error"]
    assert outcome["read_only"]["current"] == enough["current"]
