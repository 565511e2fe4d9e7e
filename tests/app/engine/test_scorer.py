from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.scorer import Scorer
from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.scoring import PAIRS_AT_ONCE
from models.sharding import Sharded

SCALE = (1.0, 5.0)


def offline(model: MatrixFactorization, users: list[int], items: list[int], scale: tuple[float, float]) -> list[float]:
    ratings: list[float] = model(torch.tensor(users), torch.tensor(items)).clamp(*scale).tolist()
    return ratings


@pytest.mark.parametrize("factors", [0, 1, 2, 7, 8, 16, 31, 32, 48, 64, 100, 128, 257])
def test_a_pair_has_the_bits_of_the_offline_model_however_it_is_asked(
    make_draft: Callable[..., Draft], factors: int
) -> None:
    model = make_draft(seed=factors, users=50, items=2_000, factors=factors).model
    scorer = Scorer(Sharded.whole(by_rating(model)), (-1e9, 1e9))
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 51, 2 * PAIRS_AT_ONCE + 3), rng.integers(0, 2_001, 2 * PAIRS_AT_ONCE + 3)
    together = scorer.predict(users, items).tolist()
    assert together == offline(model, users.tolist(), items.tolist(), scorer.scale)
    some = list(range(0, len(users), 97))
    assert [together[k] for k in some] == [scorer.predict_pair(int(users[k]), int(items[k])) for k in some]
    assert [together[k] for k in some] == [scorer.predict(users[k : k + 1], items[k : k + 1])[0] for k in some]
    assert scorer.predict(7, items).tolist() == scorer.predict(np.full_like(items, 7), items).tolist()


@given(pairs=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 400)), max_size=40), begin=st.integers(0, 3))
@settings(max_examples=60)
def test_a_part_of_a_batch_has_the_bits_of_the_batch(
    loaded: Checkpoint, pairs: list[tuple[int, int]], begin: int
) -> None:
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    scorer = Scorer(Sharded.whole(by_rating(loaded.model)), SCALE)
    assert scorer.predict(users, items)[begin:].tolist() == scorer.predict(users[begin:], items[begin:]).tolist()


def test_predictions_are_clipped_to_the_scale(loaded: Checkpoint) -> None:
    users = np.repeat(np.arange(loaded.model.users), loaded.model.items)
    items = np.tile(np.arange(loaded.model.items), loaded.model.users)
    scorer = Scorer(Sharded.whole(by_rating(loaded.model)), SCALE)
    ratings = scorer.predict(users, items)
    assert (ratings.min(), ratings.max()) == SCALE
    low, high = int(ratings.argmin()), int(ratings.argmax())
    assert [scorer.predict_pair(int(users[k]), int(items[k])) for k in (low, high)] == list(SCALE)
