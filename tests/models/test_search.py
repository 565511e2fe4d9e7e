"""Lists against a sort of every exact score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import block_search, search
from models.block_search import NOTHING
from models.mf import MatrixFactorization
from models.orderings import by_popularity, by_rating
from models.scoring import BilinearForm, Side
from models.search import top_items
from models.sharding import Sharded
from tests.support.orderings import KINDS, USERS, Case, by_factors, by_sorting, cases, make_ordering, rows_of


@pytest.fixture(params=[1 << 20, 0], ids=["scored exactly throughout", "by candidates"])
def direct_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "DIRECT_NUMBERS", request.param)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_search, "MIN_BLOCK_ROWS", 16)
    monkeypatch.setattr(search, "STRETCH", 8)
    monkeypatch.setattr(block_search, "STRETCH", 8)
    monkeypatch.setattr(search, "DIRECT_NUMBERS", 0)
    monkeypatch.setattr(block_search, "BLOCK_CELLS", {"cpu": 1, "cuda": 1})


def check(case: Case) -> None:
    ordering, users, n, excluded, allowed = case
    mask = None if allowed is None else torch.tensor(allowed, dtype=torch.bool)
    listed = top_items(ordering, torch.tensor(users), n, excluded=rows_of(excluded), allowed_I=mask)
    expected = [by_sorting(ordering, user, n, out, allowed) for user, out in zip(users, excluded, strict=True)]
    assert listed.tolist() == expected
    for index, user in enumerate(users):
        alone = top_items(
            ordering, torch.tensor([user]), n, excluded=rows_of(excluded[index : index + 1]), allowed_I=mask
        )
        assert alone.tolist() == expected[index : index + 1]


@pytest.mark.usefixtures("direct_numbers")
def test_lists_equal_a_sort_of_every_exact_score() -> None:
    settings(max_examples=150)(given(cases())(check))()


@pytest.mark.usefixtures("small_blocks")
def test_lists_do_not_depend_on_the_size_of_blocks() -> None:
    settings(max_examples=150)(given(cases())(check))()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direct_numbers", [0], indirect=True)
def test_a_catalogue_of_many_blocks(kind: str, direct_numbers: None) -> None:
    ordering = make_ordering(kind, 30_000, 48, 0, 1e-3)
    rng = np.random.default_rng(0)
    excluded = [rng.integers(30_000, size=200).tolist() for _ in range(USERS)]
    listed = top_items(ordering, torch.arange(USERS), 25, excluded=rows_of(excluded))
    assert listed.tolist() == [by_sorting(ordering, user, 25, excluded[user], None) for user in range(USERS)]


@pytest.mark.parametrize("n", [1, 10, 5_000])
@pytest.mark.usefixtures("direct_numbers")
def test_when_everything_ties_the_first_items_are_listed(n: int) -> None:
    ordering = by_rating(make_zeros(20_000))
    listed = top_items(ordering, torch.zeros(3, dtype=torch.int64), n, excluded=rows_of([[0, 2], [], [1]]))
    free = [[item for item in range(n + 3) if item not in out][:n] for out in ((0, 2), (), (1,))]
    assert listed.tolist() == free


def make_zeros(items: int) -> MatrixFactorization:
    return MatrixFactorization(
        torch.tensor(3.5), torch.zeros(2, 4), torch.zeros(items + 1, 4), torch.zeros(2), torch.zeros(items + 1)
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-10, 1e15])
def test_scores_that_are_very_small_or_very_large(scale: float) -> None:
    table = torch.randn(5_001, 16, generator=torch.Generator().manual_seed(0)) * scale
    ordering = by_factors(table[: USERS + 1], table)
    listed = top_items(ordering, torch.arange(USERS), 10)
    assert listed.tolist() == [by_sorting(ordering, user, 10, [], None) for user in range(USERS)]


def test_the_most_popular_are_the_same_for_everyone() -> None:
    ordering = by_popularity(torch.tensor([3, 9, 3, 0], dtype=torch.int32))
    assert top_items(ordering, torch.tensor([0, 7, 1_000_000]), 5).tolist() == [[1, 0, 2, 3, NOTHING]] * 3
    assert top_items(ordering, torch.tensor([12]), 2).tolist() == [[1, 0]]


@given(cases(), st.data())
def test_the_best_among_given_rows(case: Case, data: st.DataObject) -> None:
    ordering, (user, *_), n, *_ = case
    rows = data.draw(st.lists(st.integers(0, ordering.item_count - 1), unique=True))
    allowed = [item in rows for item in range(ordering.item_count)]
    expected = [item for item in by_sorting(ordering, user, n, [], allowed) if item != NOTHING]
    assert Sharded.whole(ordering).top_among(user, torch.tensor(rows, dtype=torch.int64), n).tolist() == expected


def test_minus_zero_ties_with_zero() -> None:
    model = make_zeros(4)
    model.item_bias.copy_(torch.tensor([0.0, -0.0, 0.0, -0.0, 0.0]))
    ordering = BilinearForm(Side(model.user_factors), Side(model.item_factors, model.item_bias))
    for users in ([0], [0, 1]):
        assert top_items(ordering, torch.tensor(users), 4).tolist() == [[0, 1, 2, 3]] * len(users)


def test_a_batch_of_nobody_has_no_lists() -> None:
    assert top_items(by_rating(make_zeros(4)), torch.empty(0, dtype=torch.int64), 3).shape == (0, 3)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_a_setting_of_torch_for_faster_products_widens_the_bound(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    ordering = make_ordering("rating", 5_000, 16, 0, 1e-3)
    rounded = {"highest": torch.float32, "high": torch.float16, "medium": torch.bfloat16}[precision]
    users_B, items_I = torch.arange(USERS), torch.arange(5_000)
    product_BI = ordering.users.factors[:-1].to(rounded).float() @ ordering.item_factors[:-1].to(rounded).float().T
    rough_BI = (product_BI + ordering.items.bias[:-1]).double() + block_search.constant(ordering, users_B)[:, None]
    exact_BI = torch.stack([ordering.exact(torch.full_like(items_I, user), items_I) for user in range(USERS)])
    assert ((rough_BI - exact_BI).abs().amax(1) <= block_search.error(ordering, users_B)).all()
