"""Checkpoints behind URLs: what is sent comes back, in an order in which no reader sees half of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import golden
from models.checkpoint.files import MANIFEST
from models.errors import CheckpointCorruptError, CheckpointNotFoundError, PublicationError, RemoteError
from models.registry.directory import CURRENT, load, publish
from models.registry.registry import rollback
from models.registry.remote import RemoteRegistry
from models.registry.served import SERVED
from tests.support.checkpoints import edit_manifest, small_draft
from tests.support.ftp import PASSWORD, FtpServer, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    with serving(tmp_path_factory.mktemp("served") / "root") as server:
        yield server


@pytest.fixture(params=["ftp", "file", "memory"])
def remote(request: pytest.FixtureRequest, server: FtpServer, tmp_path: Path) -> RemoteRegistry:
    urls = {
        "ftp": f"{server.url}/{tmp_path.name}",
        "file": f"file://{tmp_path}/store",
        "memory": f"memory://{tmp_path}",
    }
    return RemoteRegistry(urls[request.param])


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    """Three versions in a local directory."""
    return [tmp_path / "made" / publish(tmp_path / "made", small_draft()).version for _ in range(3)]


def test_what_was_sent_comes_back_as_it_was(remote: RemoteRegistry, made: list[Path], tmp_path: Path) -> None:
    assert [remote.add(path).number for path in made] == [1, 2, 3]
    assert remote.current() == made[2].name
    assert remote.versions() == sorted(path.name for path in made)
    assert [manifest.version for manifest in remote.published()] == [path.name for path in made]
    remote.fetch(made[1].name, tmp_path / "back" / made[1].name)
    back = load(tmp_path / "back", made[1].name)
    assert back.golden == load(made[1].parent, made[1].name).golden
    golden.check_model(back)


def test_versions_are_activated_rolled_back_from_and_pruned(remote: RemoteRegistry, made: list[Path]) -> None:
    first, second, third = (path.name for path in made)
    for path in made:
        remote.add(path, current=False)
    assert remote.current() == first  # there was none
    remote.activate(third)
    assert rollback(remote) == (third, first)  # the second one was never served
    with pytest.raises(CheckpointNotFoundError, match="before"):
        rollback(remote)
    assert remote.prune(1) == [second]
    assert remote.versions() == sorted([first, third])
    assert [manifest.version for manifest in remote.published()] == [first, third]


def test_an_empty_place_says_so(remote: RemoteRegistry) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint has been published"):
        remote.current()
    assert (remote.versions(), remote.published()) == ([], [])


@pytest.mark.parametrize("name", ["nowhere", "..", "", "a/b", "../made"])
def test_a_version_that_is_not_there_is_named(
    remote: RemoteRegistry, made: list[Path], name: str, tmp_path: Path
) -> None:
    remote.add(made[0])
    for attempt in (remote.activate, remote.make_current, lambda name: remote.fetch(name, tmp_path / "back")):
        with pytest.raises(CheckpointNotFoundError, match="no version"):
            attempt(name)
    assert remote.current() == made[0].name
    assert not (tmp_path / "back").exists()


def test_a_name_is_published_once(remote: RemoteRegistry, made: list[Path]) -> None:
    remote.add(made[0])
    with pytest.raises(PublicationError, match="already"):
        remote.add(made[0])


def test_what_is_damaged_is_not_sent(remote: RemoteRegistry, made: list[Path]) -> None:
    (made[0] / "users.arrow").write_bytes(b"torn")
    with pytest.raises(CheckpointCorruptError, match=r"users\.arrow"):
        remote.add(made[0])
    assert remote.versions() == []


def stored(server: FtpServer, made: list[Path]) -> tuple[RemoteRegistry, Path]:
    """A version behind the FTP server, and its files there."""
    folder = server.directory / made[0].parent.parent.name
    remote = RemoteRegistry(f"{server.url}/{folder.name}")
    remote.add(made[0])
    return remote, folder / made[0].name


def _missing(version: Path) -> None:
    (version / "seen.safetensors").unlink()


def _shorter(version: Path) -> None:
    (version / "seen.safetensors").write_bytes((version / "seen.safetensors").read_bytes()[:-1])


def _other(version: Path) -> None:
    content = (version / "seen.safetensors").read_bytes()
    (version / "seen.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("damage", [_missing, _shorter, _other])
def test_a_file_that_is_not_what_the_manifest_says_is_named(
    server: FtpServer, made: list[Path], tmp_path: Path, damage: Any
) -> None:
    remote, there = stored(server, made)
    damage(there)
    with pytest.raises(CheckpointCorruptError, match=r"seen\.safetensors"):
        remote.fetch(made[0].name, tmp_path / "back")
    with pytest.raises(CheckpointCorruptError, match=r"seen\.safetensors"):
        remote.activate(made[0].name)


def test_a_manifest_that_names_a_path_outside_brings_nothing(
    server: FtpServer, made: list[Path], tmp_path: Path
) -> None:
    remote, there = stored(server, made)
    edit_manifest(there, files={"../../escaped": {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(CheckpointCorruptError, match="not a file name"):
        remote.fetch(made[0].name, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert remote.published() == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"../x", b"x" * 10_000])
def test_a_current_that_names_nothing_is_refused(server: FtpServer, made: list[Path], content: bytes) -> None:
    remote, there = stored(server, made)
    (there.parent / CURRENT).write_bytes(content)
    with pytest.raises(CheckpointCorruptError, match=CURRENT):
        remote.current()


def test_more_than_the_disk_holds_is_refused_before_it_is_downloaded(
    server: FtpServer, made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, _ = stored(server, made)
    nothing_free = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nothing_free)
    with pytest.raises(RemoteError, match="10 are free"):
        remote.fetch(made[0].name, tmp_path / "back")


def test_the_manifest_is_written_after_all_other_files_and_current_after_it(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the moment at which a reader looks, it sees no version or a whole one."""
    import builtins

    store, order = tmp_path / "store", []
    open_ = builtins.open

    def noted(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "w" in mode and str(file).startswith(str(store)):
            order.append(Path(file).name)
        return open_(file, mode, *more, **options)

    monkeypatch.setattr(builtins, "open", noted)
    remote = RemoteRegistry(f"file://{store}")
    remote.add(made[0])
    assert order[-3:] == [MANIFEST, SERVED, CURRENT]


def test_a_store_that_went_away_is_named_without_the_password_and_used_again_when_it_is_back(
    tmp_path: Path, made: list[Path]
) -> None:
    with serving(tmp_path / "root") as server:
        remote = RemoteRegistry(f"{server.url}/store/")
        remote.add(made[0])
        server.kill()
        for attempt in (remote.current, remote.versions, lambda: remote.add(made[1])):
            with pytest.raises(RemoteError, match=r"ftp://\*\*\*@127") as caught:
                attempt()
            assert PASSWORD not in str(caught.value)
        server.start()
        assert remote.current() == made[0].name


def test_a_wrong_password_is_not_repeated(server: FtpServer) -> None:
    with pytest.raises(RemoteError, match="530") as caught:
        RemoteRegistry(server.url.replace(PASSWORD, "another-secret")).current()
    assert "another-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "named"), [("s3://bucket/x", "s3fs"), ("gs://bucket/x", "gcsfs"), ("nope://x", "nope")]
)
def test_a_kind_of_store_that_is_not_installed_is_named_in_one_line(url: str, named: str) -> None:
    with pytest.raises(RemoteError, match=named) as caught:
        RemoteRegistry(url).current()
    assert "\n" not in str(caught.value)
