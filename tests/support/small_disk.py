"""A program that publishes to a disk of its own: `unshare -rm python -m tests.support.small_disk MOUNT_POINT`.

It fills the disk until a given number of pages is free, for every number from none to enough, then makes it read-only.
It prints, as JSON, what each attempt to publish led to. In a user namespace no privilege is needed for all that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from models.checkpoint import load, versions
from models.errors import PublicationError
from models.publication import publish
from tests.support.checkpoints import small_draft

PAGE = os.sysconf("SC_PAGE_SIZE")


def _write_report(path: Path) -> None:
    (path / "history.json").write_text("[]\n")


def _attempt(directory: Path) -> dict[str, object]:
    error = None
    try:
        publish(directory, small_draft(write_report=_write_report))
    except PublicationError as caught:
        error = str(caught)
    left = sorted(path.name for path in directory.iterdir() if path.name.startswith(".staging"))
    return {"error": error, "current": load(directory).version, "versions": versions(directory), "left": left}


def main(mount_point: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount_point], check=True)
    directory, ballast = mount_point / "checkpoints", mount_point / "ballast"
    first = publish(directory, small_draft()).version
    attempts = []
    while not attempts or attempts[-1]["error"]:
        free = os.statvfs(mount_point).f_bavail * PAGE
        ballast.write_bytes(bytes((ballast.stat().st_size if ballast.exists() else 0) + free - len(attempts) * PAGE))
        attempts.append(_attempt(directory))
        ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", mount_point], check=True)
    print(json.dumps({"first": first, "full": attempts, "read_only": _attempt(directory)}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
