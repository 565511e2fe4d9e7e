from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.scorer import Scorer
from models.checkpoint import Checkpoint
from models.mf import MatrixFactorization
from models.publication import Draft

SCALE = (1.0, 5.0)


def brute_force(model: MatrixFactorization, user: int, excluded: set[int], n: int) -> list[int]:
    items_I = torch.arange(model.items)
    scores = model(torch.full_like(items_I, user), items_I).tolist()
    return sorted(set(range(model.items)) - excluded, key=lambda item: (-scores[item], item))[:n]


@st.composite
def models_(draw: st.DrawFn) -> MatrixFactorization:
    """Small models with many equal scores, no factors at all included."""
    users, items, factors = draw(st.integers(1, 6)), draw(st.integers(1, 90)), draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    step = draw(st.sampled_from([0.001, 1.0]))

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray((rng.normal(0, 1, shape) / step).round(), dtype=np.float32)) * step

    return MatrixFactorization(
        table(), table(users + 1, factors), table(items + 1, factors), table(users + 1), table(items + 1)
    )


@given(model=models_(), data=st.data())
@settings(deadline=None, max_examples=60)
def test_top_is_what_sorting_every_prediction_gives(model: MatrixFactorization, data: st.DataObject) -> None:
    user = data.draw(st.integers(0, model.users - 1))
    excluded = data.draw(st.sets(st.integers(0, model.items - 1)))
    n = data.draw(st.integers(1, model.items + 2))

    items_N, ratings_N = Scorer(model, SCALE).top(user, torch.tensor(sorted(excluded), dtype=torch.int32), n)

    assert items_N.tolist() == brute_force(model, user, excluded, n)
    assert len(items_N) == len(ratings_N) == min(n, model.items - len(excluded))
    assert len(set(items_N.tolist())) == len(items_N)
    assert excluded.isdisjoint(items_N.tolist())


@given(model=models_(), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_batch_gives_each_pair_the_bits_it_gets_alone(model: MatrixFactorization, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, model.users), st.integers(0, model.items)), max_size=40))
    users_B, items_B = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    scorer = Scorer(model, SCALE)

    batch = scorer.predict(users_B, items_B).tolist()

    assert batch == [scorer.predict(users_B[[k]], items_B[[k]]).item() for k in range(len(pairs))]


def test_wide_tables_give_the_same_bits_alone_in_a_batch_and_in_a_list(make_draft: Callable[..., Draft]) -> None:
    for factors in (1, 2, 7, 8, 16, 31, 64, 100, 257):
        model = make_draft(seed=factors, users=50, items=2_000, factors=factors).model
        scorer = Scorer(model, (-1e9, 1e9))
        items_N, shown_N = scorer.top(3, torch.empty(0, dtype=torch.int32), 50)
        batch_N = scorer.predict(torch.full_like(items_N, 3), items_N)
        alone_N = torch.cat([scorer.predict(torch.tensor([3]), item[None]) for item in items_N])
        assert shown_N.tolist() == batch_N.tolist() == alone_N.tolist()
        assert items_N.tolist() == brute_force(model, 3, set(), 50)


def test_predictions_are_clipped_to_the_scale(loaded: Checkpoint) -> None:
    users_B = torch.arange(loaded.model.users).repeat_interleave(loaded.model.items)
    items_B = torch.arange(loaded.model.items).repeat(loaded.model.users)
    ratings_B = Scorer(loaded.model, SCALE).predict(users_B, items_B)
    assert (ratings_B.min().item(), ratings_B.max().item()) == SCALE


def test_nothing_is_computed_off_the_device_of_the_model(loaded: Checkpoint) -> None:
    model = MatrixFactorization(**{name: table.to("meta") for name, table in loaded.model.tensors().items()})
    scorer = Scorer(model, SCALE)

    rating_B = scorer.predict(torch.zeros(7, dtype=torch.int64), torch.zeros(7, dtype=torch.int64))
    items_N, ratings_N = scorer.top(2, torch.arange(5, dtype=torch.int32), 10)

    assert {rating_B.device.type, items_N.device.type, ratings_N.device.type} == {"meta"}
    assert (rating_B.shape, items_N.shape, ratings_N.shape) == ((7,), (10,), (10,))
