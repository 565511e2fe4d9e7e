"""Processes of their own for a test, forked from one that has the slow imports behind it: milliseconds, not seconds.

`Nursery` is the test's side; run as a program, this module is the other. A child is a real process: it has its own
environment and exit code, can be killed at any point, and shares nothing with the test but the file system.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Self

from tests.support import ROOT

PROGRESS = ("fitting ", "epoch ", "reading ", "splitting ", "evaluating ", "publishing ")
TAKEN_FOR = ": fields separated by "
PAUSE = 0.005  # seconds between two looks for the end of a child
SLOW_IMPORTS = (
    "app.main",
    "app.server.launcher",
    "tests.support.checkpoints",
    "training.cli.program",
    "training.export",
    "training.job",
    "training.upload",
)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended. `code` is negative for a signal."""

    code: int
    stdout: str
    stderr: str


def is_one_error_line(done: Finished) -> bool:
    """Whether stderr has one line that is neither progress nor about the file, and that tells an error."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith(PROGRESS) and TAKEN_FOR not in line]
    return len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) > len("error: ")


class Child:
    """A child of a nursery, as `subprocess.Popen` shows a process."""

    def __init__(self, pid: int, args: Sequence[str], ends: Path) -> None:
        self.pid, self.args = pid, args
        self.returncode: int | None = None
        self._end = ends / str(pid)  # where the nursery notes the exit code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def poll(self) -> int | None:
        """The exit code, None while the child runs."""
        if self.returncode is None and self._end.exists():
            self.returncode = int(self._end.read_text())
            self._end.unlink()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once the child has ended. Raises TimeoutExpired."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(PAUSE)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Runs children `python -m MODULE ARGUMENTS…`, the modules `preloaded` imported already.

    Args:
        folder: for the output of children.
        preloaded: names of modules.
        prefix: a command that runs the command after it, such as `unshare`.
    """

    def __init__(self, folder: Path, preloaded: Sequence[str] = SLOW_IMPORTS, prefix: Sequence[str] = ()) -> None:
        self._folder, self._ends, self._runs = folder, folder / "ends", 0
        self._ends.mkdir()
        self._asking = threading.Lock()
        command = [*prefix, sys.executable, "-m", __name__, str(self._ends), *preloaded]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, module: str, *arguments: object) -> Finished:
        return self.run_at_once([(module, *arguments)])[0]

    def run_at_once(self, commands: Sequence[Sequence[object]]) -> list[Finished]:
        """Run several children side by side and wait for all of them."""
        self._runs += 1
        outputs = [str(self._folder / f"{self._runs}-{index}") for index in range(len(commands))]
        children = [
            self.start([str(word) for word in words], output + ".out", output + ".err")
            for words, output in zip(commands, outputs, strict=True)
        ]
        return [
            Finished(child.wait(), *(Path(output + end).read_text("utf-8") for end in (".out", ".err")))
            for child, output in zip(children, outputs, strict=True)
        ]

    def start(
        self, words: Sequence[str], stdout: str, stderr: str, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start a child whose output goes to files, with the environment of the test or another."""
        for output in (stdout, stderr):
            Path(output).touch()  # so that the test can read it at once
        environment = dict(os.environ if environment is None else environment)
        request = {"argv": words, "outputs": [stdout, stderr], "environment": environment, "folder": str(Path.cwd())}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
        return Child(pid, words, self._ends)


@cache
def shared_nursery() -> Nursery:
    """The one that all tests of this process share."""
    opened = ExitStack()
    atexit.register(opened.close)
    folder = opened.enter_context(TemporaryDirectory(prefix="nursery-"))
    return opened.enter_context(Nursery(Path(folder)))


def _serve(ends: Path) -> None:
    """Fork a child for each line of stdin, and print its number. The exit codes of children become files."""

    def note(*_: object) -> None:
        with suppress(ChildProcessError):  # none is left
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                part = ends / f"{pid}.part"
                part.write_text(str(os.waitstatus_to_exitcode(status)))
                part.replace(ends / str(pid))

    signal.signal(signal.SIGCHLD, note)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(**json.loads(line))
        print(pid, flush=True)  # noqa: T201 - the answer


def _become(argv: list[str], outputs: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Run a module as `python -m` would, and end as it ends, but for the modules: freeing them takes a second."""
    for descriptor, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = argv
    code = 0
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()  # so that collections in children copy no pages of these modules
    _serve(Path(sys.argv[1]))
