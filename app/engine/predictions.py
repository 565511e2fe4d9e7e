"""Predictions: which rows a pair of ids has, what its rating rests on, and what the scorer gives it.

Each function answers from the one snapshot that it is handed. Shapes: B pairs, N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.engine.fresh_users import FoldedUser, Fresh
from app.engine.scorer import Rows
from app.engine.serving_model import Served
from app.engine.types import FOLDED, SOURCES, Pair, Pairs, Prediction, Predictions


def predict_pair(served: Served, pair: Pair, person: FoldedUser | None = None) -> Prediction:
    """The rating of one pair; `person` is the user's row where that is not the model's."""
    users, items = served.checkpoint.users, served.checkpoint.items
    item = items.row(pair.item)
    if person is not None:
        rating = served.scorer.predict_folded(person.factors_F, person.bias, np.array([item]))[0]
        return Prediction(float(rating), SOURCES[_source(person, item < len(items))], served.version)
    user = users.row(pair.user)
    source = SOURCES[(user == len(users)) * 2 + (item == len(items))]
    return Prediction(served.scorer.predict_pair(user, item), source, served.version)


def predict(served: Served, pairs: Pairs, fresh: Sequence[Fresh] = ()) -> Predictions:
    """Rating of each pair, clipped to the scale; `fresh` are the users among them whose row is not the model's."""
    return predict_rows(served, *rows(served, pairs), fresh)


def predict_rows(served: Served, users_B: Rows, items_B: Rows, fresh: Sequence[Fresh]) -> Predictions:
    """As `predict`, of pairs of rows."""
    answer = _predict_rows(served, users_B, items_B)
    for positions_M, person in fresh:
        items_M = items_B[positions_M]
        answer.ratings_B[positions_M] = served.scorer.predict_folded(person.factors_F, person.bias, items_M)
        known_M = items_M < len(served.checkpoint.items)
        answer.sources_B[positions_M] = np.where(known_M, _source(person, True), _source(person, False))
    return answer


def predict_together(served: Served, jobs: Sequence[tuple[Pairs, Sequence[Fresh]]]) -> list[Predictions]:
    """The predictions of each job. Those of jobs without fresh users are one gather-dot."""
    plain = [number for number, (_, fresh) in enumerate(jobs) if not fresh]
    answers = dict(zip(plain, _together(served, [jobs[number][0] for number in plain]), strict=True))
    return [
        answers[number] if number in answers else predict(served, pairs, fresh)
        for number, (pairs, fresh) in enumerate(jobs)
    ]


def predict_folded(served: Served, person: FoldedUser, items: Sequence[str]) -> Predictions:
    """What somebody whose row is given would give each of some items."""
    items_N = served.checkpoint.items.rows(items)
    known_N = items_N < len(served.checkpoint.items)
    sources_N = np.where(known_N, _source(person, True), _source(person, False)).astype(np.uint8)
    ratings_N = served.scorer.predict_folded(person.factors_F, person.bias, items_N)
    return Predictions(ratings_N, sources_N, served.version)


def rows(served: Served, pairs: Pairs) -> tuple[Rows, Rows]:
    """The rows of both columns."""
    return served.checkpoint.users.rows(pairs.users), served.checkpoint.items.rows(pairs.items)


def _source(person: FoldedUser, item_is_known: bool) -> int:
    if person.is_known and item_is_known:
        return FOLDED
    return 2 * (not person.is_known) + (not item_is_known)


def _together(served: Served, jobs: Sequence[Pairs]) -> list[Predictions]:
    if not jobs:
        return []
    users, items = zip(*(rows(served, pairs) for pairs in jobs), strict=True)
    together = _predict_rows(served, np.concatenate(users), np.concatenate(items))
    ends = np.cumsum([len(pairs) for pairs in jobs])[:-1]
    parts = zip(np.split(together.ratings_B, ends), np.split(together.sources_B, ends), strict=True)
    return [Predictions(ratings_B, sources_B, served.version) for ratings_B, sources_B in parts]


def _predict_rows(served: Served, users_B: Rows, items_B: Rows) -> Predictions:
    sources_B = (users_B == len(served.checkpoint.users)) * np.uint8(2)
    sources_B += items_B == len(served.checkpoint.items)
    return Predictions(served.scorer.predict(users_B, items_B), sources_B, served.version)
