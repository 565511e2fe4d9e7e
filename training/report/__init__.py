"""The training report of a checkpoint, for people. It knows results, not how they were fitted.

`index.html` needs no script, no other file and no network. It contains no version and no time, so the same fit gives
the same bytes. For programs, `history.json` is the learning curve, and `held_out.arrow` what the model was measured by.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint.files import HELD_OUT, HELD_OUT_SCHEMA, HISTORY, REPORT_PAGE
from models.checkpoint.manifest import GateRecord
from models.checkpoint.writer import write_table
from training.evaluation.evaluate import TestSet, predict
from training.report.page import render
from training.results import Result

MOST_HELD_OUT = 100_000  # rows: about 3 MB, and an RMSE to 0.3 %


def write_report(result: Result, gate: GateRecord, path: Path) -> None:
    """Write the report of a fit and of its quality gate into the directory `path`."""
    history = [asdict(epoch) for epoch in result.evaluated.history]
    (path / HISTORY).write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    (path / REPORT_PAGE).write_text(render(result, gate), "utf-8")
    if result.test is not None:
        write_table(path / HELD_OUT, held_out(result, result.test))


def held_out(result: Result, test: TestSet) -> pa.Table:
    """The ratings that the model was measured by and what it predicted, clipped: `HELD_OUT_SCHEMA`.

    They are those of users and items that it knows; of more than `MOST_HELD_OUT` it is so many, drawn at random. Two
    versions are compared by them later (`models.comparison`).
    """
    every = result.measured_on.test
    known_N = np.flatnonzero((every.users_N < every.users) & (every.items_N < every.items))
    rows_N = np.sort(np.random.default_rng(0).permutation(known_N)[:MOST_HELD_OUT])
    ratings = every.take(rows_N)
    predicted_N = predict(result.evaluated.model, test.take(torch.from_numpy(rows_N))).clamp(*test.scale)
    columns = [ratings.user_ids.take(pa.array(ratings.users_N)), ratings.item_ids.take(pa.array(ratings.items_N))]
    columns += [pa.array(ratings.ratings_N), pa.array(predicted_N.cpu().numpy())]
    return pa.table(columns, HELD_OUT_SCHEMA)
