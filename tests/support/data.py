"""Small training data: planted, and by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from training.data.interactions import Interactions
from training.data.synthetic import planted
from training.fit.trainer import TrainingSet

Rating = tuple[int, int, float]


def training_set(ratings: Sequence[Rating], users: int, items: int) -> TrainingSet:
    """Ratings (user, item, rating) as a trainer is given them."""
    users_N, items_N, ratings_N = zip(*ratings, strict=True)
    return TrainingSet(
        users=users,
        items=items,
        users_N=torch.tensor(users_N, dtype=torch.int32),
        items_N=torch.tensor(items_N, dtype=torch.int32),
        ratings_N=torch.tensor(ratings_N, dtype=torch.float32),
    )


def planted_set(users: int = 400, items: int = 300, ratings: int = 40_000) -> TrainingSet:
    """Ratings with a low-rank truth, one at least of every user and item."""
    users_N, items_N, ratings_N = planted(users, items, ratings, np.random.default_rng(0))
    rated_users, users_N = np.unique(users_N, return_inverse=True)
    rated_items, items_N = np.unique(items_N, return_inverse=True)
    rows = zip(users_N.tolist(), items_N.tolist(), ratings_N.tolist(), strict=True)
    return training_set(list(rows), len(rated_users), len(rated_items))


def interactions(ratings: Sequence[Rating], users: int, items: int) -> Interactions:
    """Ratings (user, item, rating) under the vocabularies u0 … and i0 …."""
    users_N, items_N, ratings_N = zip(*ratings, strict=True)
    return Interactions(
        users_N=np.array(users_N, np.int32),
        items_N=np.array(items_N, np.int32),
        ratings_N=np.array(ratings_N, np.float32),
        timestamps_N=None,
        user_ids=pa.array([f"u{user}" for user in range(users)]),
        item_ids=pa.array([f"i{item}" for item in range(items)]),
    )
