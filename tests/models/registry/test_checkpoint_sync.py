"""A directory that follows a store on an FTP server, which is torn, slow, killed and comes back."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.errors import CheckpointNotFoundError, RemoteError
from models.registry import checkpoint_sync
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import CURRENT, current_version, load, publish, versions
from models.registry.hold import Hold
from models.registry.remote import RemoteRegistry
from tests.support.checkpoints import replace_tensors, small_draft
from tests.support.ftp import PASSWORD, FtpServer, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FtpServer]:
    with serving(tmp_path / "root") as server:
        yield server


@pytest.fixture
def store(server: FtpServer) -> Path:
    """The directory behind the server, to publish in directly."""
    return server.directory


@pytest.fixture
def kept(server: FtpServer, tmp_path: Path) -> CheckpointSync:
    """A mirror of it."""
    return CheckpointSync(RemoteRegistry(server.url), tmp_path / "kept")


def add(store: Path) -> str:
    return publish(store, small_draft()).version


def shelf(kept: CheckpointSync) -> tuple[list[str], str]:
    return versions(kept.directory), current_version(kept.directory)


def test_what_becomes_current_appears_whole_and_becomes_current(store: Path, kept: CheckpointSync) -> None:
    first = add(store)
    kept.start()
    assert shelf(kept) == ([first], first)
    second = add(store)
    assert kept.look() is None
    assert shelf(kept) == (sorted([first, second]), second)
    (store / CURRENT).write_text(first)
    assert kept.look() is None
    assert current_version(kept.directory) == first
    load(kept.directory)
    assert kept.directory.stat().st_mode & 0o777 == 0o700


def test_old_versions_are_removed_but_for_the_last_and_those_that_are_held(store: Path, kept: CheckpointSync) -> None:
    names = [add(store)]
    kept.start()
    hold = Hold(kept.directory / names[0])
    for _ in range(4):
        names.append(add(store))
        kept.look()
    assert versions(kept.directory) == sorted([names[0], *names[-2:]])
    del hold
    names.append(add(store))
    kept.look()
    assert versions(kept.directory) == sorted(names[-2:])
    assert [file.name for file in kept.directory.iterdir() if file.name.startswith(".staging")] == []


def test_a_torn_version_is_refused_by_name_until_it_is_whole(
    store: Path, kept: CheckpointSync, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = add(store)
    kept.start()
    second = add(store)
    weights = store / second / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            refusal = kept.look()
            assert refusal is not None
            assert refusal == kept.refusal()
    assert (refusal.version, refusal.kind) == (second, "CheckpointCorruptError")
    assert "weights.safetensors" in refusal.reason
    assert len(caplog.records) == 1
    assert shelf(kept) == ([first], first)
    weights.write_bytes(whole)
    assert kept.look() == refusal  # not tried again yet
    monkeypatch.setattr(kept, "_retry_at", 0.0)
    assert kept.look() is None
    assert kept.refusal() is None
    assert current_version(kept.directory) == second


def test_a_version_that_was_refused_is_tried_again_ever_later(store: Path, kept: CheckpointSync) -> None:
    add(store)
    kept.start()
    (store / add(store) / "users.arrow").unlink()
    waits = []
    for _ in range(8):
        kept.look()
        waits.append(kept._wait)
        kept._retry_at = 0.0
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert kept._refused is not None


@pytest.mark.parametrize(("name", "value"), [("mean", 1.25), ("mean", float("nan"))])
def test_a_poisoned_version_with_the_right_hashes_is_refused(
    store: Path, kept: CheckpointSync, name: str, value: float
) -> None:
    first = add(store)
    kept.start()
    replace_tensors(store / add(store), "weights.safetensors", {name: torch.tensor(value)})
    refusal = kept.look()
    assert refusal is not None
    assert refusal.kind in ("GoldenPairsError", "CheckpointCorruptError")
    assert ".staging" not in refusal.reason
    assert shelf(kept) == ([first], first)


def test_a_store_that_is_away_changes_nothing_and_is_asked_ever_less_often(
    server: FtpServer, store: Path, kept: CheckpointSync
) -> None:
    first = add(store)
    kept.start()
    server.kill()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            server.start()
        if len(pauses) == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        kept.follow(pause)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, 1, 1]
    assert kept.refusal() is None
    assert shelf(kept) == ([first], first)


def test_while_the_store_is_away_the_reason_is_known_without_the_password(
    server: FtpServer, store: Path, kept: CheckpointSync
) -> None:
    add(store)
    kept.start()
    server.kill()
    refusal = kept.look()
    assert refusal is not None
    assert (refusal.version, refusal.kind) == (None, "RemoteError")
    assert PASSWORD not in refusal.reason


def test_a_start_without_the_store_takes_what_is_there(server: FtpServer, store: Path, kept: CheckpointSync) -> None:
    first = add(store)
    kept.start()
    server.kill()
    again = CheckpointSync(RemoteRegistry(server.url), kept.directory)
    again.start()
    assert shelf(again) == ([first], first)


def test_a_first_start_without_the_store_or_without_a_version_says_why(server: FtpServer, kept: CheckpointSync) -> None:
    with pytest.raises(RemoteError, match="no checkpoint has been published"):
        kept.start()
    server.kill()
    with pytest.raises(RemoteError, match="cannot be used"):
        kept.start()


def test_what_the_disk_has_damaged_is_downloaded_again_at_the_next_start(store: Path, kept: CheckpointSync) -> None:
    first = add(store)
    kept.start()
    (kept.directory / first / "weights.safetensors").write_bytes(b"damaged")
    kept.start()
    assert load(kept.directory).version == first


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec leaves the file open
def test_a_store_killed_during_a_download_leaves_nothing_half(tmp_path: Path) -> None:
    with serving(tmp_path / "root") as server:
        kept = CheckpointSync(RemoteRegistry(server.url), tmp_path / "kept")
        first = add(server.directory)
        kept.start()
        second = add(server.directory)
        server.kill()
        server.start(bytes_per_second=1_500)  # of 20 kB
        kept = CheckpointSync(RemoteRegistry(server.url), kept.directory)
        looking = threading.Thread(target=kept.look)
        looking.start()
        while not [*kept.directory.glob(f".staging-*/{second}/*")]:
            assert looking.is_alive()
        server.kill()
        looking.join()
        assert shelf(kept) == ([first], first)
        assert [*kept.directory.glob(".staging-*")] == []
        server.start()
        kept.look()
        assert shelf(kept) == (sorted([first, second]), second)


def _look(url: str, directory: Path, downloads: Path) -> None:
    """Run in a forked child, which has none of the threads that torch computes with and would wait for them."""
    torch.set_num_threads(1)
    fetch = RemoteRegistry.fetch

    def noted(remote: RemoteRegistry, version: str, path: Path) -> None:
        (downloads / path.parent.name).touch()
        fetch(remote, version, path)

    RemoteRegistry.fetch = noted  # type: ignore[method-assign]
    CheckpointSync(RemoteRegistry(url), directory).start()


def test_processes_of_one_host_download_once(server: FtpServer, store: Path, tmp_path: Path) -> None:
    first = add(store)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_look, args=(server.url, tmp_path / "kept", downloads)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len([*downloads.iterdir()]) == 1
    assert current_version(tmp_path / "kept") == first


def test_a_pinned_version_is_had_whatever_is_current(server: FtpServer, store: Path, tmp_path: Path) -> None:
    first, second = add(store), add(store)
    kept = CheckpointSync(RemoteRegistry(server.url), tmp_path / "kept", pinned=first)
    kept.start()
    assert shelf(kept) == ([first], first)
    assert [manifest.version for manifest in kept.published()] == [first, second]


def test_a_directory_of_another_user_is_not_used(kept: CheckpointSync, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.directory.mkdir()
    monkeypatch.setattr(checkpoint_sync.os, "getuid", lambda: 12345)
    with pytest.raises(CheckpointNotFoundError, match="another user"):
        kept.start()


def test_making_a_version_current_writes_to_the_store_first(
    server: FtpServer, store: Path, kept: CheckpointSync
) -> None:
    first, second = add(store), add(store)
    kept.start()
    kept.provide(first)
    kept.make_current(first)
    assert (current_version(store), current_version(kept.directory)) == (first, first)
    server.kill()
    with pytest.raises(RemoteError):
        kept.make_current(second)
    assert current_version(kept.directory) == first
    assert [manifest.version for manifest in kept.published()] == [first, second]
