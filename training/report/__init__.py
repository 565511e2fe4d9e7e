"""What a person wants to know of one fit, written into the checkpoint's `report/` directory.

`index.html` is one page that needs nothing else: no script, no other file, no network. It names no version and no time,
so the same fit gives the same bytes. `history.json` is the learning curve for programs.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from models.checkpoint.manifest import GateRecord
from training.report.page import render
from training.results import Result


def write_report(result: Result, gate: GateRecord, path: Path) -> None:
    """Write the report of a fit, and of what the gate said of it, into the directory `path`."""
    history = [asdict(epoch) for epoch in result.evaluated.history]
    (path / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    (path / "index.html").write_text(render(result, gate), "utf-8")
