"""Somebody who follows a page of the documentation: types its blocks into one shell, and reads what comes back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from tests.support.pages import Block
from tests.support.ports import held_port
from tests.support.service import is_ready
from tests.support.waiting import wait_until

END = "--- end of a block ---"
ADDRESS = "127.0.0.1:8000"  # what pages call the service; it listens elsewhere here
SERVES = re.compile(r"ratecast serve\b(?!.* &$)(?!.*--help)|make serve")
OFF = 0.02  # of a number that is shown: another processor adds up in another order
A_TIME = 1e9  # seconds since 1970: numbers that are no times are smaller
REPEATS = re.compile(r"--every .*--out (?P<out>\S+)|--out (?P<also>\S+).* --every ")


class Reader:
    """A shell in a folder, and the port that it believes to be 8000.

    Args:
        folder: where the blocks are run.
        notes: a folder for what the shell is given and what it complains of.
        environment: variables of the shell beside those of this process; none that set Ratecast up are taken over.
    """

    def __init__(self, folder: Path, notes: Path, environment: dict[str, str]) -> None:
        self.folder, self._notes = folder, notes
        self._typed = notes / "typed"
        self._complaints = notes / "stderr"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RATECAST_P", "PYTEST"))}
        with self._complaints.open("w") as stderr:
            self._shell = subprocess.Popen(
                ["bash"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=kept | {"RATECAST_SHUTDOWN_PAUSE": "0"} | environment,
                text=True,
                start_new_session=True,
            )
        self._say("set -eo pipefail")
        self._ports = ExitStack()
        self.port = self._new_port()

    def read(self, block: Block) -> str:
        """Do what a block says, a block of shell or Python; its output."""
        if block.file is not None:
            path = self.folder / block.file
            assert path.parent.resolve() == self.folder.resolve() / Path(block.file).parent, "not into the tree itself"
            path.unlink(missing_ok=True)
            path.write_text(block.text)
            return ""
        text = block.text.replace("--device cuda", "--device cpu") if "needs-gpu" in block.marks else block.text
        if block.language == "python":
            (self.folder / "block.py").write_text(text.replace(ADDRESS, f"127.0.0.1:{self.port}"))
            return self.type("python block.py")
        if repeats := REPEATS.search(text.replace("\\\n", "")):
            return self._until_published(text, self.folder / (repeats["out"] or repeats["also"]))
        return self.start(text) if SERVES.search(block.commands[-1]) else self.type(text)

    def type(self, text: str, *, behind: bool = False) -> str:
        """Run commands; their output. A command that fails ends the shell. `behind`: do not wait for
        them, nor read what they print, but give their process id."""
        self._typed.write_text(text.replace(ADDRESS, f"127.0.0.1:{self.port}"))
        how = ">&2 &\nprintf $!" if behind else ""
        self._say(f"source {self._typed} </dev/null {how}\nprintf '\\n{END}\\n'")
        lines = list[str]()
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            if line == END + "\n":
                return "".join(lines).removesuffix("\n")
            lines.append(line)
        raise AssertionError(f"failed: {text}\n{''.join(lines)}\n{self._complaints.read_text()}")

    def start(self, text: str) -> str:
        """Start a service, on a port of its own, and wait until it answers."""
        self.port = self._new_port()
        self._wait(lambda: is_ready(f"http://127.0.0.1:{self.port}"), self.type(text, behind=True))
        return ""

    def close(self) -> None:
        """End everything that was started."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            wait_until(self._is_gone, seconds=30)
        self._ports.close()
        for stream in (self._shell.stdin, self._shell.stdout):
            with suppress(BrokenPipeError):
                assert stream is not None
                stream.close()

    def _until_published(self, text: str, directory: Path) -> str:
        before = len(list(directory.glob("*/manifest.json")))
        started = self.type(text, behind=True)
        self._wait(lambda: len(list(directory.glob("*/manifest.json"))) > before, started)
        self.type("kill $!; wait $! || true")
        return ""

    def _new_port(self) -> int:
        """A port for the next service, held for it until everything is closed."""
        port = self._ports.enter_context(held_port())
        self._say(f"export RATECAST_PORT={port} PORT={port}")
        return port

    def _wait(self, done: Callable[[], object], started: str) -> None:
        """Wait until something that was started in the background has led to what it should, or has ended."""

        def look() -> object:
            alive = psutil.pid_exists(int(started)) and psutil.Process(int(started)).status() != psutil.STATUS_ZOMBIE
            found = done()
            assert alive or found, f"ended: {self._typed.read_text()}\n{self._complaints.read_text()}"
            return found

        wait_until(look, self._shell, log=self._complaints, seconds=240)

    def _is_gone(self) -> bool:
        self._shell.poll()
        try:
            os.killpg(self._shell.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _say(self, text: str) -> None:
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):  # the shell has ended: what it printed last is read all the same
            self._shell.stdin.write(text + "\n")
            self._shell.stdin.flush()


def mirror(source: Path, target: Path, real: frozenset[str], prefix: str = "") -> None:
    """A working tree of links to another one. The folders in `real` are folders, so that files can be added to them."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        name = prefix + path.name
        if name in real:
            mirror(path, target / path.name, real, name + "/")
        elif path.name not in {".git", ".venv", "build", "checkpoints", "ratings.csv"} and "cache" not in path.name:
            (target / path.name).symlink_to(path)
    if not prefix:
        (target / ".venv").symlink_to(sys.prefix)


def shape(value: object) -> object:
    """A JSON document without its values: keys, nested as they are; of an array its first element."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value[:1]]
    return None


def same_keys(shown: str, answered: str) -> bool:
    """Whether two JSON documents have the same keys in the same places."""
    return shape(json.loads(shown)) == shape(json.loads(answered))


def same_numbers(shown: str, answered: str, off: float) -> bool:
    """Whether the numbers of a JSON document are those of another one, as far as `off`, but for times."""
    one, other = (_numbers(json.loads(text)) for text in (shown, answered))
    return len(one) == len(other) and all(
        abs(first - second) <= off or min(first, second) > A_TIME for first, second in zip(one, other, strict=True)
    )


def _numbers(found: object) -> list[float]:
    if isinstance(found, int | float):
        return [float(found)]
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return [number for part in parts for number in _numbers(part)]


def without_numbers(text: str) -> str:
    """A text with every number replaced: what is left is the same in each run."""
    return re.sub(r"\d+", "0", "\n".join(line.rstrip() for line in text.strip().splitlines()))
