"""A program that publishes small checkpoints: `python -m tests.support.publisher DIRECTORY COUNT [OPERATION]`.

It prints the version of each. With OPERATION it kills itself by SIGKILL before that change to the file system, from 0.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from models.publication import publish
from tests.support.checkpoints import small_draft

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}  # as the interpreter audits them
WRITES = os.O_WRONLY | os.O_RDWR


def _die_before(operation: int, directory: str) -> None:
    count = itertools.count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and arguments[2] & WRITES)
        if changes and str(arguments[0]).startswith(directory) and next(count) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _write_report(path: Path) -> None:
    (path / "history.json").write_text("[]\n")


def main(directory: str, count: str, operation: str | None = None) -> None:
    if operation is not None:
        _die_before(int(operation), directory)
    for _ in range(int(count)):
        print(publish(Path(directory), small_draft(write_report=_write_report)).version)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
