"""The proxy of the compose file before replicas on this host: its program, its configuration, a server of names.

Replicas listen on one port of several loopback addresses; the proxy learns the addresses by DNS, as it does in Docker.
"""

from __future__ import annotations

import csv
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import ROOT
from tests.support.waiting import SECONDS, wait_until

CONFIGURATION = ROOT / "deploy/proxy"
PROGRAM = "/usr/sbin/haproxy"
NAME = "replicas.test"
ANSWER, NOTHING = 0x8580, 0x8583  # flags of an answer with authority; the second says that there is no such name
A = 1


class Names:
    """A server of names on a free UDP port, which answers for every name with the same addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self._socket.recvfrom(512)
                self._socket.sendto(self._answer(query), client)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5  # of the question: name, type, class
        (wanted,) = struct.unpack("!H", query[end - 4 : end - 2])
        found = self.addresses if wanted == A else []
        records = [b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 0, 4) + socket.inet_aton(address) for address in found]
        flags = ANSWER if self.addresses else NOTHING
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12:end] + b"".join(records)


class Proxy:
    """A running proxy: its port, the names it asks, what it knows of replicas, and what it has logged."""

    def __init__(self, port: int, names: Names, control: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.port, self.names, self.process = port, names, process
        self._control, self._log = control, log

    def logged(self) -> str:
        return self._log.read_text("utf-8")

    def replicas(self) -> dict[str, dict[str, str]]:
        """Of each address: what the proxy counts of it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._control))
            connection.sendall(b"show stat\n")
            text = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
        rows = csv.DictReader(text.splitlines())
        return {
            row["addr"].rpartition(":")[0]: row
            for row in rows
            if row["# pxname"] == "replicas" and row["type"] == "2" and row["addr"]
        }

    def ready(self) -> int | None:
        """How many replicas it sends requests to; None while some of them have not said that they are ready.

        One whose name was just found is UP until it was asked, and one that leaves until it was asked three times.
        """
        up = [row for row in self.replicas().values() if row["status"].startswith("UP")]
        return len(up) if all("L7OK" in row["check_status"] for row in up) else None

    def until_ready(self, wanted: int, seconds: float = SECONDS) -> None:
        """Wait until it sends requests to so many replicas."""
        wait_until(lambda: self.ready() == wanted, self.process, log=self._log, seconds=seconds)


@contextmanager
def proxy(addresses: Sequence[str], port: int) -> Iterator[Proxy]:
    """The proxy before replicas at these addresses, all at one port."""
    names = Names(addresses)
    with TemporaryDirectory(prefix="proxy") as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        control = Path(folder) / "control"
        environment = {"LISTEN": f"fd@{listener.fileno()}", "REPLICAS_AT": f"{NAME}:{port}", "SOCKET": str(control)}
        environment |= {"RESOLVER": f"127.0.0.1:{names.port}", "HTTP_ERRORS": str(CONFIGURATION / "errors")}
        command, log = [PROGRAM, "-db", "-f", str(CONFIGURATION / "haproxy.cfg")], Path(folder) / "log"
        with (
            log.open("wb") as stderr,
            subprocess.Popen(
                command, env=os.environ | environment, stderr=stderr, pass_fds=[listener.fileno()]
            ) as process,
        ):
            try:
                wait_until(control.exists, process, log=log)
                port = listener.getsockname()[1]
                listener.close()  # the proxy has it
                yield Proxy(port, names, control, log, process)
            finally:
                process.terminate()
                process.wait(30)
                names.close()
