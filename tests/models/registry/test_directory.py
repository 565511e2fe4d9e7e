"""What happens to published versions, and that a kill or a full disk at any point loses none of them."""

from __future__ import annotations

import datetime
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint import writer
from models.checkpoint.files import MANIFEST
from models.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    InterruptedAfterPublication,
    PublicationError,
)
from models.registry import directory as directory_module
from models.registry.directory import (
    CURRENT,
    LOCK,
    activate,
    copy,
    current_version,
    load,
    prune,
    publish,
    published,
    versions,
)
from models.registry.hold import Hold
from models.registry.registry import DirectoryRegistry, rollback
from models.registry.served import SERVED
from tests.support.checkpoints import small_draft
from tests.support.forks import ROOT, Nursery

DRAFT = small_draft()  # made before a test forks: torch's threads are not in the child
PUBLISHER = "tests.support.publisher"
HOLDER = """
import sys
from pathlib import Path
from models.registry.hold import Hold
hold = Hold(Path(sys.argv[1]))
print(flush=True)
input()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Four versions, the last one current."""
    for _ in range(4):
        publish(tmp_path / "checkpoints", small_draft())
    return tmp_path / "checkpoints"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A version that was made elsewhere."""
    return tmp_path / "source" / publish(tmp_path / "source", small_draft()).version


def order(directory: Path) -> list[str]:
    return [manifest.version for manifest in published(directory)]


def test_versions_have_the_order_of_their_publication_though_the_clock_jumps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime.datetime):
        days = 0

        @classmethod
        def now(cls, zone: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime(2026, 6, 15, tzinfo=zone) + datetime.timedelta(days=cls.days)

    monkeypatch.setattr(writer, "datetime", Clock)
    made = []
    for Clock.days in (0, 10, -400, -399):
        made.append(publish(tmp_path, small_draft()).version)
    assert order(tmp_path) == made != sorted(made)
    assert current_version(tmp_path) == made[-1]
    assert rollback(DirectoryRegistry(tmp_path)) == (made[3], made[2])
    assert rollback(DirectoryRegistry(tmp_path)) == (made[2], made[1])
    activate(tmp_path, made[3])
    assert prune(tmp_path, keep=2) == made[:2]


def test_rolling_back_goes_from_version_to_version_and_says_where_it_ends(directory: Path) -> None:
    names = order(directory)
    for before, after in zip(names[:0:-1], names[-2::-1], strict=True):
        assert rollback(DirectoryRegistry(directory)) == (before, after)
    with pytest.raises(CheckpointNotFoundError, match=f"before {names[0]}"):
        rollback(DirectoryRegistry(directory))
    assert current_version(directory) == names[0]


def test_what_cannot_be_served_does_not_become_current(directory: Path) -> None:
    *_, damaged, current = order(directory)
    weights = directory / damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for attempt in (lambda: activate(directory, damaged), lambda: rollback(DirectoryRegistry(directory))):
        with pytest.raises(CheckpointCorruptError, match=r"weights\.safetensors"):
            attempt()
    for name in ("nowhere", "..", "", "a/b"):
        with pytest.raises(CheckpointNotFoundError):
            activate(directory, name)
    assert current_version(directory) == current


def test_a_checkpoint_from_elsewhere_is_published_under_its_name_as_the_last(directory: Path, source: Path) -> None:
    before = order(directory)
    assert copy(source, directory).version == source.name
    assert order(directory) == [*before, source.name]
    assert current_version(directory) == source.name
    assert load(directory).golden == load(source.parent).golden
    with pytest.raises(PublicationError, match="already"):
        copy(source, directory)


def test_publishing_can_leave_the_current_version(directory: Path, source: Path) -> None:
    current = current_version(directory)
    copy(source, directory, current=False)
    last = publish(directory, small_draft(), activate=False).version
    assert order(directory)[-2:] == [source.name, last]
    assert current_version(directory) == current


@pytest.mark.parametrize("name", [MANIFEST, "weights.safetensors", "golden.arrow"])
def test_a_damaged_checkpoint_from_elsewhere_is_refused_whole(directory: Path, source: Path, name: str) -> None:
    before = sorted(directory.iterdir())
    (source / name).write_bytes((source / name).read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=name):
        copy(source, directory)
    assert sorted(directory.iterdir()) == before


def test_pruning_keeps_the_last_ones_the_current_one_and_those_in_use(directory: Path) -> None:
    first, second, third, last = order(directory)
    activate(directory, second)
    holder = [sys.executable, "-c", HOLDER, directory / first]
    with subprocess.Popen(holder, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert prune(directory, keep=1) == [third]
        assert order(directory) == [first, second, last]
        process.kill()
    assert prune(directory, keep=1) == [first]
    assert order(directory) == [second, last]
    assert prune(directory, keep=9) == []


def test_a_hold_ends_with_its_object(directory: Path) -> None:
    first = order(directory)[0]
    hold = Hold(directory / first)
    assert first not in prune(directory, keep=1)
    del hold
    assert prune(directory, keep=1) == [first]
    Hold(directory / "nowhere")


def test_without_a_current_version_nothing_is_pruned(directory: Path) -> None:
    (directory / CURRENT).write_text("../x")
    with pytest.raises(CheckpointCorruptError):
        prune(directory, keep=1)
    assert len(order(directory)) == 4


@pytest.mark.parametrize(
    ("action", "least"),
    [("activate", 3), ("rollback", 3), ("prune", 20), pytest.param("copy", 10, marks=pytest.mark.slow)],
)
def test_a_kill_at_any_point_leaves_whole_versions_and_a_current_one(
    directory: Path, source: Path, nursery: Nursery, action: str, least: int
) -> None:
    """Each attempt is killed before the next change to the file system, until one gets through."""
    untouched = directory.with_name("untouched")
    shutil.copytree(directory, untouched)
    kills = 0
    while (child := nursery.run(PUBLISHER, directory, action, kills)).code == -signal.SIGKILL:
        kills += 1
        assert current_version(directory) in versions(directory)
        assert all(load(directory, version).version == version for version in versions(directory))
        shutil.rmtree(directory)
        shutil.copytree(untouched, directory)
    assert (child.code, child.stderr) == (0, "")
    assert kills >= least


@pytest.mark.parametrize("action", ["activate", "rollback", "prune", "copy"])
def test_what_a_kill_left_behind_is_cleaned_up_by_whoever_comes_next(
    directory: Path, source: Path, nursery: Nursery, action: str
) -> None:
    for operation in range(2, 14, 3):
        nursery.run(PUBLISHER, directory, action, operation)
    publish(directory, small_draft())
    assert {path.name for path in directory.iterdir()} == {*versions(directory), CURRENT, SERVED, LOCK}
    assert all(load(directory, version).version == version for version in versions(directory))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda directory, _: activate(directory, order(directory)[0]),
        lambda directory, _: rollback(DirectoryRegistry(directory)),
        lambda directory, _: prune(directory, keep=1),
        lambda directory, source: copy(source, directory),
        lambda directory, _: publish(directory, DRAFT),
    ],
    ids=["activate", "rollback", "prune", "copy", "publish"],
)
def test_without_permission_nothing_changes(
    directory: Path, source: Path, attempt: Callable[[Path, Path], object]
) -> None:
    before = sorted(directory.iterdir())
    child = os.fork()
    if child == 0:
        os._exit(_denied(directory, source, attempt))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(directory.iterdir()) == before


def _denied(directory: Path, source: Path, attempt: Callable[[Path, Path], object]) -> int:
    """As an account that may read and not write: 0 where that is said in one line."""
    if os.getuid() == 0:
        for path in (directory, *directory.parents):
            path.chmod(path.stat().st_mode | 0o055)
        os.setgid(65534)
        os.setuid(65534)
    else:
        directory.chmod(0o500)
    try:
        attempt(directory, source)
    except PublicationError as error:
        return 0 if "Permission denied" in str(error) and "\n" not in str(error) else 3
    return 4


@pytest.mark.parametrize("kind", ["large", "pipe", "directory", "device"])
def test_what_stands_in_place_of_current_is_neither_waited_for_nor_read_whole(directory: Path, kind: str) -> None:
    """A sparse file of 2 GB, a pipe that nobody writes to, a folder, a device without end."""
    first, file = current_version(directory), directory / CURRENT
    file.unlink()
    match kind:
        case "large":
            with file.open("wb") as stream:
                stream.truncate(2 << 30)
        case "pipe":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointCorruptError, match=CURRENT):
        current_version(directory)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 10_000  # kB
    if kind != "directory":  # which no rename replaces
        activate(directory, first)
        assert current_version(directory) == first


def test_a_pipe_in_place_of_a_manifest_is_no_version_and_is_not_waited_for(directory: Path) -> None:
    version = directory / "piped"
    version.mkdir()
    os.mkfifo(version / MANIFEST)
    assert "piped" not in [manifest.version for manifest in published(directory)]
    Hold(version)
    with pytest.raises(CheckpointCorruptError):
        activate(directory, "piped")


def test_a_model_that_no_reader_accepts_is_not_published(directory: Path) -> None:
    """What was written is read, and its golden pairs are predicted, before CURRENT moves."""
    before, current = versions(directory), current_version(directory)
    refused = small_draft()
    refused.model.item_bias.fill_(1e16)
    with pytest.raises(PublicationError, match=r"cannot be served: .*nothing was published"):
        publish(directory, refused)
    assert (versions(directory), current_version(directory)) == (before, current)
    assert not [path for path in directory.iterdir() if path.name.startswith(".staging")]


def test_an_interrupt_while_a_version_gets_its_name_comes_after_it_and_names_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = directory_module._flush

    def interrupted(path: Path) -> None:
        if path == directory:  # the version has its name
            signal.raise_signal(signal.SIGINT)
        flush(path)

    monkeypatch.setattr(directory_module, "_flush", interrupted)
    with pytest.raises(InterruptedAfterPublication) as caught:
        publish(directory, small_draft())
    assert current_version(directory) == caught.value.version
    assert load(directory).version == caught.value.version
