"""A program that changes a checkpoint directory: `python -m tests.support.publisher DIRECTORY ACTION [OPERATION]`.

ACTION is a name in `ACTIONS`, or how many small checkpoints to publish; the version of each is printed. With OPERATION
the program kills itself by SIGKILL before that change to the file system, from 0.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from models.registry.directory import activate, copy, current_version, prune, publish, versions
from models.registry.registry import DirectoryRegistry, rollback
from tests.support.checkpoints import small_draft

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.copyfile"}  # as they are audited
WRITES = os.O_WRONLY | os.O_RDWR


def _die_before(operation: int, directory: str) -> None:
    count = itertools.count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and arguments[2] & WRITES)
        touched = any(str(argument).startswith(directory) for argument in arguments[:2])
        relative = event in {"os.remove", "os.rmdir"} and not str(arguments[0]).startswith("/")  # by `shutil.rmtree`
        if changes and (touched or relative) and next(count) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _write_report(path: Path) -> None:
    (path / "history.json").write_text("[]\n")


def _activate_another(directory: Path) -> None:
    activate(directory, next(name for name in versions(directory) if name != current_version(directory)))


def _copy_the_source(directory: Path) -> None:
    (manifest,) = (directory.parent / "source").glob("*/manifest.json")
    copy(manifest.parent, directory)


ACTIONS = {
    "activate": _activate_another,
    "rollback": lambda directory: rollback(DirectoryRegistry(directory)),
    "prune": lambda directory: prune(directory, keep=1),
    "copy": _copy_the_source,
}


def main(directory: str, action: str, operation: str | None = None) -> None:
    if operation is not None:
        _die_before(int(operation), directory)
    if action in ACTIONS:
        ACTIONS[action](Path(directory))
        return
    for _ in range(int(action)):
        print(publish(Path(directory), small_draft(write_report=_write_report)).version)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
