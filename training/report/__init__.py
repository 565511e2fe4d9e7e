"""The training report of a checkpoint, for people. It knows results, not how they were fitted.

`index.html` needs no script, no other file and no network. It contains no version and no time, so the same fit gives
the same bytes. `history.json` is the learning curve for programs.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from models.checkpoint.manifest import GateRecord
from training.report.page import render
from training.results import Result


def write_report(result: Result, gate: GateRecord, path: Path) -> None:
    """Write the report of a fit and of its quality gate into the directory `path`."""
    history = [asdict(epoch) for epoch in result.evaluated.history]
    (path / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    (path / "index.html").write_text(render(result, gate), "utf-8")
