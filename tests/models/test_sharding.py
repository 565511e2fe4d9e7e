"""Items in shards against all of them on one device: the same bits, whatever the shards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import block_search, search
from models.block_search import NOTHING
from models.devices import CPU
from models.mf import MatrixFactorization
from models.orderings import by_lower_bound, by_popularity, by_rating
from models.scoring import BilinearForm
from models.search import top_items
from models.sharding import Sharded, spread
from tests.support.orderings import KINDS, USERS, Case, by_factors, by_sorting, cases, make_ordering, rows_of

META = torch.device("meta")
shards = st.sampled_from([1, 2, 3, 5, 60])  # most of 60 are empty or hold one item where there are few


def split(ordering: BilinearForm, number: int) -> Sharded:
    return spread({"": ordering}, [CPU] * number)[""]


def random_model(users: int = USERS, items: int = 2_000, factors: int = 8) -> MatrixFactorization:
    rng = np.random.default_rng(0)
    shapes = (
        (),
        (users + 1, factors),
        (items + 1, factors),
        (users + 1,),
        (items + 1,),
        (),
        (users + 1,),
        (items + 1,),
    )
    return MatrixFactorization(*(torch.tensor(rng.random(shape), dtype=torch.float32) for shape in shapes))


@pytest.fixture(params=["scored exactly", "by candidates", "in small blocks"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "scored exactly":
        monkeypatch.setattr(search, "DIRECT_NUMBERS", 0)
    if request.param == "in small blocks":
        monkeypatch.setattr(block_search, "MIN_BLOCK_ROWS", 16)
        monkeypatch.setattr(search, "STRETCH", 8)
        monkeypatch.setattr(block_search, "STRETCH", 8)
        monkeypatch.setattr(block_search, "BLOCK_CELLS", {"cpu": 1, "cuda": 1})
        monkeypatch.setattr(search, "ONE_BY_ONE", 0)


def check_lists(case: Case, number: int) -> None:
    ordering, users, n, excluded, allowed = case
    sharded = split(ordering, number)
    mask = None if allowed is None else sharded.cut(torch.tensor(allowed, dtype=torch.bool))
    listed = sharded.top_items(torch.tensor(users), n, excluded=rows_of(excluded), allowed=mask)
    assert listed.tolist() == [
        by_sorting(ordering, user, n, out, allowed) for user, out in zip(users, excluded, strict=True)
    ]


@pytest.mark.usefixtures("sizes")
def test_lists_do_not_depend_on_the_number_of_shards() -> None:
    settings(max_examples=30)(given(cases(), shards)(check_lists))()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 32])
def test_lists_of_a_catalogue_of_many_blocks_are_those_of_one_device(kind: str, batch: int) -> None:
    ordering = make_ordering(kind, 30_000, 48, 0, 1e-3)
    rng = np.random.default_rng(0)
    users_B = torch.from_numpy(rng.integers(USERS + 1, size=batch))
    excluded = rows_of([rng.integers(30_000, size=200).tolist() for _ in range(batch)])
    allowed_I = torch.from_numpy(rng.random(30_000) < 0.9)
    expected = top_items(ordering, users_B, 25, excluded=excluded, allowed_I=allowed_I)
    for number in (2, 4):
        sharded = split(ordering, number)
        listed = sharded.top_items(users_B, 25, excluded=excluded, allowed=sharded.cut(allowed_I))
        assert torch.equal(listed, expected)


@given(cases(), shards, st.data())
def test_scores_do_not_depend_on_the_number_of_shards(case: Case, number: int, data: st.DataObject) -> None:
    """Of known and unknown items, whose pairs go to different shards."""
    ordering, sharded = case[0], split(case[0], number)
    pairs = st.lists(st.tuples(st.integers(0, USERS), st.integers(0, ordering.item_count)), max_size=20)
    users_M, items_M = torch.tensor(data.draw(pairs), dtype=torch.int64).view(-1, 2).T.contiguous()
    assert torch.equal(sharded.exact(users_M, items_M), ordering.exact(users_M, items_M))


@given(cases(), shards, st.data())
def test_the_best_among_given_rows_do_not_depend_on_the_number_of_shards(
    case: Case, number: int, data: st.DataObject
) -> None:
    ordering, (user, *_), n, *_ = case
    rows = data.draw(st.lists(st.integers(0, ordering.item_count - 1), unique=True))
    rows_C = torch.tensor(rows, dtype=torch.int64)
    alone = Sharded.whole(ordering).top_among(user, rows_C, n)
    assert split(ordering, number).top_among(user, rows_C, n).tolist() == alone.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 3])
def test_a_user_whose_row_is_given_gets_the_list_of_that_row(kind: str, number: int) -> None:
    ordering = make_ordering(kind, 500, 8, 0, 0.25)
    row = (None if kind == "popularity" else torch.linspace(-1, 1, 8), 0.5, 0.125)
    alone, sharded = ordering.of_user(row), split(ordering, number).of_user(row)
    zeros, items_I = torch.zeros(501, dtype=torch.int64), torch.arange(501)
    assert torch.equal(sharded.exact(zeros, items_I), alone.exact(zeros, items_I))
    assert torch.equal(sharded.top_items(zeros[:1], 20), top_items(alone, zeros[:1], 20))


@given(st.integers(1, 60), st.integers(0, 5), shards, st.integers(1, 70), st.integers(0, 2**32))
def test_the_nearest_items_do_not_depend_on_the_number_of_shards(
    items: int, factors: int, number: int, n: int, seed: int
) -> None:
    """Tables of few values: most cosines stand there several times, and some rows are zero."""
    rng = np.random.default_rng(seed)
    table_IG = torch.from_numpy(rng.integers(-1, 2, (items + 1, factors)).astype(np.float32))
    ordering = by_factors(table_IG[:1], table_IG)
    item = int(rng.integers(items))
    rows_N, cosines_N = split(ordering, number).similar_items(item, n)
    assert (len(rows_N), item in rows_N) == (min(n, items - 1), False)
    everything = Sharded.whole(ordering).similar_items(item, items)
    by_row = dict(zip(everything[0].tolist(), everything[1].tolist(), strict=True))
    expected = sorted(by_row, key=lambda row: (-by_row[row], row))[:n]
    assert rows_N.tolist() == expected
    assert cosines_N.tolist() == [by_row[row] for row in expected]


def test_nearness_is_the_cosine_of_factors() -> None:
    table_IG = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.0, 0.0], [-2.0, 0.0], [5.0, 0.0], [9.0, 9.0]])
    rows_N, cosines_N = split(by_factors(table_IG[:1], table_IG), 2).similar_items(0, 9)
    assert rows_N.tolist() == [4, 1, 2, 3]
    assert cosines_N.tolist() == pytest.approx([1, 0.5**0.5, 0, -1])


def test_all_devices_have_a_product_to_do_before_the_first_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []
    products, candidates = block_search.write_products, block_search.BlockSearch._candidates

    def launch(ordering: BilinearForm, *arguments: object) -> None:
        happened.append("launched")
        products(ordering, *arguments)  # type: ignore[arg-type]

    def wait(search: block_search.BlockSearch, *arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        happened.append("waited")
        return candidates(search, *arguments)

    monkeypatch.setattr(block_search, "write_products", launch)
    monkeypatch.setattr(block_search.BlockSearch, "_candidates", wait)
    monkeypatch.setattr(block_search, "BLOCK_CELLS", {"cpu": 1, "cuda": 1})
    model = random_model(items=3 * block_search.MIN_BLOCK_ROWS)
    split(by_rating(model), 3).top_items(torch.arange(5), 10)
    assert happened == ["launched"] * 3 + ["waited", "waited", "waited"]
    happened.clear()
    split(by_rating(random_model(items=6 * block_search.MIN_BLOCK_ROWS)), 3).top_items(torch.arange(5), 10)
    assert happened == ["launched"] * 3 + ["waited", "launched"] * 3 + ["waited"] * 3


def orderings_of(model: MatrixFactorization, head_IG: torch.Tensor) -> dict[str, BilinearForm]:
    return {
        "rating": by_rating(model),
        "lower_bound": by_lower_bound(model),
        "relevance": by_factors(model.user_factors, head_IG),
        "popularity": by_popularity(torch.ones(model.items, dtype=torch.int32)),
    }


def tables(sharded: dict[str, Sharded], number: int) -> Iterator[torch.Tensor]:
    """Every tensor that a shard of an ordering has."""
    for ordering in sharded.values():
        form = ordering.shards[number].ordering
        held = (*vars(form.users).values(), *vars(form.items).values(), form.mean)
        yield from (table for table in held if isinstance(table, torch.Tensor))


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_a_device_holds_its_range_of_the_items_once_and_no_users(number: int) -> None:
    items, factors, width = 1_000, 8, 16
    model = random_model(items=items, factors=factors)
    named = orderings_of(model, torch.zeros(items + 1, width))
    sharded = spread(named, [META] * number)
    row_bytes = 4 * (factors + width + 3)  # q, y, a bias, a variance, and how often it was rated
    for shard in range(number):
        held = {id(table): table.nbytes for table in tables(sharded, shard)}
        rows = -(-items // number) + 1
        assert 0 < sum(held.values()) <= rows * row_bytes + 8  # and μ for each of two orders
    assert sum(shard.ordering.item_count for shard in sharded["rating"].shards) == items


def test_on_the_cpu_shards_are_parts_of_the_tables() -> None:
    model = random_model()
    sharded = spread(orderings_of(model, model.item_factors), [CPU] * 3)
    storages = {table.untyped_storage().data_ptr() for table in model.tensors().values()}
    for name in ("rating", "lower_bound", "relevance"):
        for number in range(3):
            assert {table.untyped_storage().data_ptr() for table in tables({name: sharded[name]}, number)} <= storages


def test_without_devices_named_the_ordering_stays_where_it_is() -> None:
    ordering = by_rating(random_model())
    sharded = spread({"rating": ordering})["rating"]
    assert sharded.only is ordering
    assert (sharded.device, sharded.items, sharded.cells) == (CPU, ordering.item_count, ordering.item_factors.numel())


def test_a_catalogue_smaller_than_the_number_of_devices() -> None:
    ordering = by_popularity(torch.tensor([2, 7], dtype=torch.int32))
    sharded = split(ordering, 5)
    assert [shard.ordering.item_count for shard in sharded.shards] == [0, 0, 1, 0, 1]
    assert sharded.top_items(torch.zeros(4, dtype=torch.int64), 3).tolist() == [[1, 0, NOTHING]] * 4
    assert sharded.top_items(torch.empty(0, dtype=torch.int64), 3).shape == (0, 3)
