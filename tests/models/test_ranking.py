"""Top-N against a sort of every score."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.ranking import NOTHING, top_n, top_unseen
from models.seen import SeenItems

FEW_VALUES = st.sampled_from([-math.inf, -2.5, -0.0, 0.0, 1e-45, 3.5])  # many ties
SCORES = st.one_of(FEW_VALUES, st.floats(width=32, allow_nan=False, allow_infinity=False))
LENGTHS = st.integers(1, 12)


@st.composite
def score_tables(draw: st.DrawFn) -> torch.Tensor:
    items = draw(st.integers(1, 9))
    row = st.lists(SCORES, min_size=items, max_size=items)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=4)), dtype=torch.float32)


def by_sorting(scores: list[float], n: int) -> list[int]:
    candidates = [item for item, score in enumerate(scores) if score > -math.inf]
    best = sorted(candidates, key=lambda item: (-scores[item], item))[:n]
    return best + [NOTHING] * (min(n, len(scores)) - len(best))


@given(score_tables(), LENGTHS)
def test_lists_equal_a_sort_by_score_then_index(scores_BI: torch.Tensor, n: int) -> None:
    assert top_n(scores_BI, n).tolist() == [by_sorting(row, n) for row in scores_BI.tolist()]


@given(score_tables(), LENGTHS)
def test_a_batch_equals_its_rows_one_by_one(scores_BI: torch.Tensor, n: int) -> None:
    assert top_n(scores_BI, n).tolist() == [top_n(row[None], n)[0].tolist() for row in scores_BI]


@given(score_tables(), LENGTHS)
def test_the_scores_themselves_are_left_alone(scores_BI: torch.Tensor, n: int) -> None:
    before = scores_BI.clone()
    top_n(scores_BI, n)
    assert torch.equal(scores_BI, before)


def test_minus_zero_ties_with_zero() -> None:
    assert top_n(torch.tensor([[0.0, -0.0, 0.0, -0.0]]), 4).tolist() == [[0, 1, 2, 3]]


def test_a_row_without_candidates_is_all_filler() -> None:
    assert top_n(torch.full((1, 3), -math.inf), 2).tolist() == [[NOTHING, NOTHING]]


def test_plus_infinity_is_a_score_like_any_other() -> None:
    assert top_n(torch.tensor([[1.0, math.inf, -math.inf]]), 3).tolist() == [[1, 0, NOTHING]]


@given(score_tables(), LENGTHS, st.data())
def test_a_seen_item_is_never_listed_and_every_other_may_be(
    scores_BI: torch.Tensor, n: int, data: st.DataObject
) -> None:
    users, items = scores_BI.shape
    pairs = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    seen_pairs = sorted(data.draw(st.sets(pairs)))
    columns = torch.tensor(seen_pairs, dtype=torch.int32).reshape(-1, 2).numpy()
    seen = SeenItems.from_pairs(columns[:, 0], columns[:, 1], users)
    masked = [
        [-math.inf if (user, item) in seen_pairs else score for item, score in enumerate(row)]
        for user, row in enumerate(scores_BI.tolist())
    ]
    listed = top_unseen(scores_BI, seen, torch.arange(users), n)
    assert listed.tolist() == [by_sorting(row, n) for row in masked]


def test_an_unknown_user_has_seen_nothing() -> None:
    seen = SeenItems(torch.tensor([0, 2, 2]), torch.tensor([0, 1], dtype=torch.int32))
    assert top_unseen(torch.tensor([[1.0, 2.0]]), seen, torch.tensor([1]), 2).tolist() == [[1, 0]]


def test_shapes_on_the_meta_device() -> None:
    assert top_n(torch.zeros(3, 5, device="meta"), 7).shape == (3, 5)
