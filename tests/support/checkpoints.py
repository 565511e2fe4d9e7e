"""A small model to publish, and ways to tamper with what was published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint.files import ITEM_SCHEMA, MANIFEST, USER_SCHEMA
from models.checkpoint.writer import Draft
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from tests.support.drafts import RULE, data_record, make_draft, trainer_record

USERS, ITEMS, FACTORS, RELEVANCE_FACTORS = 3, 4, 2, 3


def small_model(**tables: Tensor) -> MatrixFactorization:
    """Three users, four items, two factors, random tables but for those that are given."""
    rng = np.random.default_rng(0)
    shapes = {
        "mean": (),
        "user_factors": (USERS + 1, FACTORS),
        "item_factors": (ITEMS + 1, FACTORS),
        "user_bias": (USERS + 1,),
        "item_bias": (ITEMS + 1,),
    }
    drawn = {name: torch.tensor(rng.standard_normal(shape), dtype=torch.float32) for name, shape in shapes.items()}
    return MatrixFactorization(**(drawn | tables))


def small_head() -> RelevanceHead:
    """A relevance head of random tables for the same users and items."""
    rng = np.random.default_rng(1)
    shapes = ((USERS + 1, RELEVANCE_FACTORS), *[(ITEMS + 1, RELEVANCE_FACTORS)] * 2)
    tables = (torch.tensor(rng.standard_normal(shape), dtype=torch.float32) for shape in shapes)
    return RelevanceHead(*tables, rule=RULE)


def small_draft(**changes: Any) -> Draft:
    """A draft of `small_model` alone, in which user 0 has seen items 1 and 3, user 1 nothing and user 2 item 0.

    Items count the ratings of whatever `seen` is given.
    """
    seen = changes.pop("seen", None) or TrainingRatings.from_ratings(
        np.array([2, 0, 0], np.int32), np.array([0, 3, 1], np.int32), np.array([3, 1, 4.5], np.float32), USERS
    )
    items = {"id": ["i0", "i1", "i2", "i3"], "title": ["A", None, "C", "D"], "year": [1995, 1996, None, 1998]}
    items |= {"genres": [["Drama"], [], None, ["Comedy", "War"]], "labels": [None, ["new"], [], None]}
    items |= {"mean_rating": [3.0, 4.5, None, 1.0]}
    items |= {"ratings": seen.counts(ITEMS)}
    fields = {
        "model": small_model(),
        "users": pa.table({"id": ["u0", "u1", "ü2"]}, USER_SCHEMA),
        "items": pa.table(items, ITEM_SCHEMA),
        "trainer": trainer_record(name="adam", preset="small", settings={"factors": 2}, fit_seconds=0.5),
        "data": data_record(name="set", fingerprint="f", train_ratings=3, rating_mean=2.8),
        "metrics": {"rmse": 1.0, "mae": None},
    }
    return make_draft(seen=seen, **(fields | changes))


def edit_manifest(version: Path, **changes: object) -> None:
    """Replace top-level entries of the manifest."""
    file = version / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def replace_file(version: Path, name: str, content: bytes) -> None:
    """Put other content into a file and its hash into the manifest, as an attacker would who can write both."""
    (version / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    files = json.loads((version / MANIFEST).read_text())["files"]
    edit_manifest(version, files=files | {name: entry})


def replace_tensors(version: Path, name: str, changes: Mapping[str, Tensor | None]) -> None:
    """Replace tensors of a file, or remove those that are None, with the right hash in the manifest."""
    tensors = {key: tensor.clone() for key, tensor in load_file(version / name).items()} | changes
    scratch = version / "scratch"
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, scratch)
    content = scratch.read_bytes()
    scratch.unlink()
    replace_file(version, name, content)


def replace_table(version: Path, name: str, table: pa.Table) -> None:
    """Replace an Arrow file, with the right hash in the manifest."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    replace_file(version, name, sink.getvalue().to_pybytes())
