"""What waits in tests notices that a process has ended, and a port that is held is given to nobody else."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.ports import LOOPBACK, held_port
from tests.support.service import serving
from tests.support.waiting import until, wait_until

DELAY = 60.0  # seconds that no test here may reach


async def never() -> bool:
    return False


def test_a_wait_ends_when_the_process_does(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("the reason")
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        began = time.monotonic()
        with pytest.raises(AssertionError, match=r"(?s)exit code 3.*the reason"):
            wait_until(lambda: False, process, log=log, seconds=DELAY)
        with pytest.raises(AssertionError, match="exit code 3"):
            asyncio.run(until(never, process, seconds=DELAY))
    assert time.monotonic() - began < DELAY


def test_a_wait_in_vain_ends_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("what was said")
    with pytest.raises(TimeoutError, match="what was said"):
        wait_until(lambda: False, log=log, seconds=0.0)


def test_a_service_that_cannot_start_says_why_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"(?s)exit code 2.*ratecast fit"), serving(tmp_path):
        pass
    assert time.monotonic() - began < DELAY


def test_a_held_port_refuses_connections_until_its_server_listens() -> None:
    with held_port(("127.0.0.1", "127.0.0.2")) as port:
        for address in ("127.0.0.1", "127.0.0.2"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, port))
            for _ in range(2):  # it may come back
                with socket.create_server((address, port)):
                    socket.create_connection((address, port)).close()


def test_a_held_port_is_given_to_nobody_who_asks_for_any() -> None:
    with held_port() as port:
        for _ in range(1_000):
            with socket.socket() as other:
                other.bind((LOOPBACK, 0))
                assert other.getsockname()[1] != port
