"""Ids to rows and back, for any text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import Vocabulary

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # surrogates are not text: Arrow stores UTF-8
IDS = st.lists(TEXTS, unique=True)


def vocabulary(ids: list[str]) -> Vocabulary:
    return Vocabulary(pa.array(ids, pa.string()))


@given(IDS)
def test_rows_and_lookup_are_inverse(ids: list[str]) -> None:
    held = vocabulary(ids)
    assert held.rows(ids).tolist() == list(range(len(ids)))
    assert held.lookup(np.arange(len(ids))) == ids
    assert [held[row] for row in range(len(held))] == ids


@given(IDS, TEXTS)
def test_a_single_id_has_the_row_it_has_in_a_batch(ids: list[str], id_: str) -> None:
    held = vocabulary(ids)
    assert held.row(id_) == held.rows([id_])[0] == (ids.index(id_) if id_ in ids else len(ids))
    assert (id_ in held) == (id_ in ids)


def test_ids_are_not_normalised() -> None:
    assert vocabulary(["é", "e\u0301", "É", "1", "01", " 1"]).rows(["e\u0301", "01", "É", " 1"]).tolist() == [
        1,
        4,
        2,
        5,
    ]


def test_rows_of_nothing_are_int64() -> None:
    assert vocabulary(["a"]).rows([]).dtype == np.int64


@pytest.mark.parametrize("ids", [["a", "b", "a"], ["a", None]])
def test_repeated_and_missing_ids_are_refused(ids: list[str | None]) -> None:
    with pytest.raises(ValueError, match="distinct and not null"):
        Vocabulary(pa.array(ids, pa.string()))
