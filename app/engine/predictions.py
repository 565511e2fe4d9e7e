"""Predictions: which rows a pair of ids has, what its rating rests on, and what the scorer gives it.

Each function answers from the one snapshot that it is handed. Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.engine.answers import SOURCES, Pair, Pairs, Prediction, Predictions
from app.engine.scorer import Rows
from app.engine.store import Served


def predict_pair(served: Served, pair: Pair) -> Prediction:
    """The rating of one pair."""
    users, items = served.checkpoint.users, served.checkpoint.items
    user, item = users.row(pair.user), items.row(pair.item)
    source = SOURCES[(user == len(users)) * 2 + (item == len(items))]
    return Prediction(served.scorer.predict_pair(user, item), source, served.version)


def predict(served: Served, pairs: Pairs) -> Predictions:
    """Rating of each pair, clipped to the scale."""
    return _predict_rows(served, *_rows(served, pairs))


def predict_together(served: Served, jobs: Sequence[Pairs]) -> list[Predictions]:
    """The predictions of each job, all pairs in one gather-dot."""
    users, items = zip(*(_rows(served, pairs) for pairs in jobs), strict=True)
    together = _predict_rows(served, np.concatenate(users), np.concatenate(items))
    ends = np.cumsum([len(pairs) for pairs in jobs])[:-1]
    parts = zip(np.split(together.ratings_B, ends), np.split(together.sources_B, ends), strict=True)
    return [Predictions(ratings_B, sources_B, served.version) for ratings_B, sources_B in parts]


def _rows(served: Served, pairs: Pairs) -> tuple[Rows, Rows]:
    return served.checkpoint.users.rows(pairs.users), served.checkpoint.items.rows(pairs.items)


def _predict_rows(served: Served, users_B: Rows, items_B: Rows) -> Predictions:
    sources_B = (users_B == len(served.checkpoint.users)) * np.uint8(2)
    sources_B += items_B == len(served.checkpoint.items)
    return Predictions(served.scorer.predict(users_B, items_B), sources_B, served.version)
