import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from zipfile import ZipFile

import pytest

from training.data.fetch import Download, Wheel, default_cache, fetch
from training.errors import DataError, SourceUnavailableError

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FETCH = """
import pathlib, sys
from training.data.fetch import Download, fetch
fetch(Download(*sys.argv[1:3]), pathlib.Path(sys.argv[3]))
"""


class Server(ThreadingHTTPServer):
    """Serves CONTENT as /whole.zip, half of it as /cut.zip, and half of it as /stuck.zip, without an end."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = 0
        self.half_sent, self.released = Event(), Event()

    def download(self, name: str, sha256: str = SHA256) -> Download:
        return Download(f"http://127.0.0.1:{self.server_port}/{name}", sha256)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path not in ("/whole.zip", "/cut.zip", "/stuck.zip"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole.zip" else CONTENT[: len(CONTENT) // 2])
        if self.path == "/stuck.zip":
            self.server.half_sent.set()
            self.server.released.wait(60)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch(server.download("whole.zip"), tmp_path / "new" / "cache")
        assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "whole.zip").write_bytes(CONTENT[:-1])
    assert fetch(server.download("whole.zip"), tmp_path).read_bytes() == CONTENT


def test_a_file_put_into_the_cache_by_hand_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "whole.zip").write_bytes(CONTENT)
    fetch(server.download("whole.zip"), tmp_path)
    assert server.requests == 0


@pytest.mark.parametrize(
    ("name", "sha256", "message"),
    [
        ("whole.zip", "0" * 64, f"its sha256 is {SHA256}, not {'0' * 64} as recorded"),
        ("cut.zip", SHA256, "peer closed connection"),
        ("missing.zip", SHA256, "the server answers 404"),
    ],
)
def test_what_cannot_be_fetched_says_why_and_leaves_nothing(
    server: Server, tmp_path: Path, name: str, sha256: str, message: str
) -> None:
    source = server.download(name, sha256)
    with pytest.raises(SourceUnavailableError, match=f"{source.url}: .*{message}"):
        fetch(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_nobody_listens_on_is_an_unavailable_source(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailableError, match="refused"):
            fetch(Download(f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip", SHA256), tmp_path)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_download_that_is_killed_leaves_no_half_file(server: Server, tmp_path: Path, ending: signal.Signals) -> None:
    stuck = server.download("stuck.zip")
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, stuck.url, stuck.sha256, str(tmp_path)], stderr=subprocess.PIPE
    )
    assert server.half_sent.wait(60)
    process.send_signal(ending)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (tmp_path / "stuck.zip").exists()
    if ending == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_behind_is_removed_in_time(server: Server, tmp_path: Path) -> None:
    old, recent = tmp_path / ".fetch-old", tmp_path / ".fetch-recent"
    for folder in (old, recent):
        folder.mkdir()
        (folder / "half.zip").touch()
    os.utime(old, (0, 0))
    fetch(server.download("whole.zip"), tmp_path)
    assert (old.exists(), recent.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_says_so(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="set RATECAST_CACHE to another folder"):
        fetch(server.download("whole.zip"), tmp_path / "file")


def wheel(folder: Path) -> Path:
    path = folder / "planted-1.0-py3-none-any.whl"
    with ZipFile(path, "w") as file:
        file.writestr("planted-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
        file.writestr("planted-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("planted-1.0.dist-info/RECORD", "")
    return path


def test_a_wheel_comes_through_pip(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    source = Wheel(str(path), path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    fetched = fetch(source, tmp_path / "cache")
    assert fetched.read_bytes() == path.read_bytes()
    assert list((tmp_path / "cache").iterdir()) == [fetched]


def test_a_wheel_that_pip_does_not_find_says_why(tmp_path: Path) -> None:
    source = Wheel(str(tmp_path / "none-1.0-py3-none-any.whl"), "none-1.0-py3-none-any.whl", SHA256)
    with pytest.raises(SourceUnavailableError, match=r"from the package index: .*none-1\.0-py3-none-any\.whl"):
        fetch(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RATECAST_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("RATECAST_CACHE")
    assert default_cache().is_absolute()
    assert "ratecast" in default_cache().parts
