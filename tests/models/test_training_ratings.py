"""Seen items, against sets of pairs."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training_ratings import TrainingRatings

USERS, ITEMS = 4, 6
PAIRS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), unique=True)


def seen_items(pairs: list[tuple[int, int]]) -> TrainingRatings:
    columns = np.array(pairs, np.int32).reshape(-1, 2)
    return TrainingRatings.from_ratings(columns[:, 0], columns[:, 1], np.arange(len(columns), dtype=np.float32), USERS)


@given(PAIRS)
def test_each_user_has_their_items_in_ascending_order_and_the_unknown_user_none(pairs: list[tuple[int, int]]) -> None:
    seen = seen_items(pairs)
    expected = [sorted(item for user, item in pairs if user == row) for row in range(USERS + 1)]
    assert [seen.of(row).tolist() for row in range(USERS + 1)] == expected


@given(PAIRS, st.lists(st.integers(0, USERS)))
def test_rows_are_the_items_of_each_position_of_a_batch(pairs: list[tuple[int, int]], batch: list[int]) -> None:
    offsets, items_M = seen_items(pairs).rows(torch.tensor(batch, dtype=torch.int64))
    listed = [items_M[begin:end].tolist() for begin, end in itertools.pairwise(offsets.tolist())]
    assert listed == [sorted(item for user, item in pairs if user == row) for row in batch]
    assert (offsets.dtype, items_M.dtype) == (torch.int64, torch.int32)


@given(PAIRS)
def test_counts_are_ratings_by_item(pairs: list[tuple[int, int]]) -> None:
    counts = seen_items(pairs).counts(ITEMS)
    assert counts.tolist() == [sum(item == column for _, item in pairs) for column in range(ITEMS)]


def test_the_tables_have_the_types_of_the_format() -> None:
    seen = seen_items([(0, 1)])
    assert (seen.offsets.dtype, seen.items_N.dtype) == (torch.int64, torch.int32)
    assert seen.offsets.shape == (USERS + 2,)
