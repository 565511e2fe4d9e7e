"""A program that changes versions on a small disk: `unshare -rm python -m tests.support.small_disk MOUNT_POINT ACTION`.

ACTION is `publish`, `copy` or `activate`. The disk is filled until a given number of pages is free, for every number
from none to enough; then it is made read-only. It prints, as JSON, what each attempt led to. In a user namespace no
privilege is needed for all that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from models.errors import PublicationError
from models.registry.directory import activate, copy, current_version, load, publish, versions
from tests.support.checkpoints import small_draft

PAGE = os.sysconf("SC_PAGE_SIZE")


def _write_report(path: Path) -> None:
    (path / "history.json").write_text("[]\n")


def _publish(directory: Path, _: Path) -> None:
    publish(directory, small_draft(write_report=_write_report))


def _copy(directory: Path, source: Path) -> None:
    copy(source, directory)


def _activate(directory: Path, _: Path) -> None:
    activate(directory, next(name for name in versions(directory) if name != current_version(directory)))


ACTIONS = {"publish": _publish, "copy": _copy, "activate": _activate}


def _attempt(directory: Path, source: Path, action: str) -> dict[str, object]:
    error = None
    try:
        ACTIONS[action](directory, source)
    except PublicationError as caught:
        error = str(caught)
    left = sorted(path.name for path in directory.iterdir() if path.name.startswith(".staging"))
    return {"error": error, "current": load(directory).version, "versions": versions(directory), "left": left}


def main(mount_point: Path, action: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount_point], check=True)
    directory, ballast = mount_point / "checkpoints", mount_point / "ballast"
    first = publish(directory, small_draft()).version
    source = mount_point / "source" / publish(mount_point / "source", small_draft()).version
    if action == "activate":
        publish(directory, small_draft(), activate=False)
    attempts = []
    while not attempts or attempts[-1]["error"]:
        free = os.statvfs(mount_point).f_bavail * PAGE
        ballast.write_bytes(bytes((ballast.stat().st_size if ballast.exists() else 0) + free - len(attempts) * PAGE))
        attempts.append(_attempt(directory, source, action))
        ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", mount_point], check=True)
    print(json.dumps({"first": first, "full": attempts, "read_only": _attempt(directory, source, action)}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
