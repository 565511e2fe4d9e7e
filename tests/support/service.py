"""The service as a process of its own. It takes a free port and says which; a test that waits for it sees it end."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import httpx

from tests.support.forks import shared_nursery
from tests.support.waiting import Process, wait_until

LISTENS = re.compile(r" on (http://[^\s\"]+:\d+)")  # as the service logs it
END_SECONDS = 60.0
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading the trusted authorities takes 30 ms

Start: TypeAlias = Callable[..., AbstractContextManager[tuple[httpx.Client, Any]]]
"""What the fixture `start` gives: a function that runs the service, and gives a client of it and its process."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready.

    Attributes:
        process: of the service, the parent of its workers where there are several.
        url: where it listens.
        log: the file that its stderr goes to.
    """

    process: Process
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def serving(
    checkpoints: Path | str,
    *flags: str,
    log: Path | None = None,
    ends_with: int = 0,
    program: str = "app",
    within: Sequence[str] = (),
    anew: bool = False,
    **settings: str,
) -> Iterator[Service]:
    """Run `python -m app`, or another program like it, until the block ends; its exit code must be `ends_with`.

    It is forked from a process that has imported what it needs, unless it is to start `anew`, or `within` a command
    that replaces itself by the one that follows it.

    `settings` are its RATECAST_… variables; none is taken over from this process. Unless they name another, the pause
    before it stops is 0.
    """
    with TemporaryDirectory(prefix="service-") as folder:
        log = log or Path(folder) / "stderr"
        words = [program, "--checkpoints", str(checkpoints), "--port", "0", *flags]
        with _process(words, within, environment(**settings), log, anew=anew) as process:
            try:
                wait_until(lambda: _address(log), process, log=log)
                service = Service(process, _address(log), log)
                wait_until(lambda: is_ready(service.url), process, log=log)
                yield service
            finally:
                process.terminate()
                code = process.wait(END_SECONDS)
            assert code == ends_with, log.read_text("utf-8")


def _process(
    words: Sequence[str], within: Sequence[str], variables: Mapping[str, str], log: Path, *, anew: bool
) -> Process:
    if not anew and not within:
        return shared_nursery().start(words, os.devnull, str(log), variables)
    with log.open("wb") as stderr:
        return subprocess.Popen([*within, sys.executable, "-m", *words], stderr=stderr, env=variables)


def environment(**settings: str) -> dict[str, str]:
    """The variables of this process, with these settings of the service and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RATECAST_")}
    return kept | {f"RATECAST_{name.upper()}": value for name, value in ({"shutdown_pause": "0"} | settings).items()}


def is_ready(url: str) -> bool:
    """Whether the service there says that it is ready."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health/ready", timeout=30, verify=TRUSTS_NOBODY).status_code == 200
    return False


def _address(log: Path) -> str:
    """Where the service has said that it listens, empty before."""
    found = LISTENS.search(log.read_text("utf-8", "replace"))
    return found[1] if found else ""
