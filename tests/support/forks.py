"""Processes of their own for a test, forked from one that has the slow imports behind it: milliseconds, not seconds.

`Nursery` is the test's side; run as a program, this module is the other. A child is a real process: it has its own
exit code, can be killed at any point, and shares nothing with the test but the file system.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from tests.support import ROOT

PROGRESS = ("fitting ", "epoch ", "reading ", "splitting ", "evaluating ", "publishing ")
TAKEN_FOR = ": fields separated by "


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


class Nursery:
    """Runs children `python -m MODULE ARGUMENTS…`, the modules `preloaded` imported already.

    Args:
        folder: for the output of children.
        preloaded: names of modules.
        prefix: a command that runs the command after it, such as `unshare`.
    """

    def __init__(self, folder: Path, preloaded: Sequence[str], prefix: Sequence[str] = ()) -> None:
        self._folder = folder
        command = [*prefix, sys.executable, "-m", __name__, *preloaded]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, module: str, *arguments: object) -> Finished:
        return self.run_at_once([(module, *arguments)])[0]

    def run_at_once(self, commands: Sequence[Sequence[object]]) -> list[Finished]:
        """Run several children side by side and wait for all of them."""
        request = [
            {"argv": [str(word) for word in words], "output": str(self._folder / f"child-{index}")}
            for index, words in enumerate(commands)
        ]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline())
        return [
            Finished(code, *(Path(child["output"] + end).read_text("utf-8") for end in (".out", ".err")))
            for code, child in zip(codes, request, strict=True)
        ]


def _serve() -> None:
    for line in sys.stdin:
        children = [_fork(**child) for child in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)  # noqa: T201 - the answer


def _fork(argv: list[str], output: str) -> int:
    child = os.fork()
    if child == 0:
        _become(argv, output)
    return child


def _become(argv: list[str], output: str) -> NoReturn:
    """Run a module as `python -m` would, and end as it ends."""
    for descriptor, end in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output + end, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: Any = 0
    try:
        sys.argv = argv
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    _serve()
