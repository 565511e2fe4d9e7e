"""A store of checkpoints that can die, be slow and be torn: an FTP server as a process of its own.

`python -m tests.support.ftp DIRECTORY PORT BYTES_PER_SECOND` serves a directory to one user, who may write, until it is
killed; 0 bytes per second are as many as there come.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.ports import held_port
from tests.support.waiting import wait_until

USER, PASSWORD = "ratecast", "a-password"


class FtpServer:
    """The test's side of it.

    Attributes:
        directory: what it serves.
        url: of that directory, with the password.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self._port = port
        self.url = f"ftp://{USER}:{PASSWORD}@127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, bytes_per_second: int = 0) -> None:
        """Serve, at this port again after a kill."""
        command = [sys.executable, "-W", "ignore", "-m", __name__, str(self.directory), str(self._port)]
        self._process = subprocess.Popen([*command, str(bytes_per_second)])
        wait_until(self._greets, self._process)

    def _greets(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            return connection.recv(3) == b"220"
        return False

    def kill(self) -> None:
        """As if the host had gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def serving(directory: Path, bytes_per_second: int = 0) -> Iterator[FtpServer]:
    directory.mkdir(exist_ok=True)
    with held_port() as port:
        server = FtpServer(directory, port)
        try:
            server.start(bytes_per_second)
            yield server
        finally:
            server.kill()


def main(directory: str, port: str, bytes_per_second: str) -> None:
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler
    from pyftpdlib.servers import FTPServer

    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, directory, perm="elradfmwMT")
    FTPHandler.authorizer, FTPHandler.dtp_handler = authorizer, ThrottledDTPHandler
    ThrottledDTPHandler.read_limit = ThrottledDTPHandler.write_limit = int(bytes_per_second)
    FTPHandler.log = FTPHandler.logline = lambda *_, **__: None
    FTPServer(("127.0.0.1", int(port)), FTPHandler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
