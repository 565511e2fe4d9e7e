"""Predictions: which rows a pair of ids has, what its rating rests on, and what the scorer gives it.

Each function answers from the one model that it is handed. Shapes: B pairs, M of one user, N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.engine.folding import FoldedUser
from app.engine.fresh_users import FreshUser
from app.engine.scorer import Ratings, Rows
from app.engine.serving_model import ServingModel
from app.engine.types import FOLDED, SOURCES, Pair, Pairs, Prediction, Predictions


def predict_pair(model: ServingModel, pair: Pair, folded: FoldedUser | None = None) -> Prediction:
    """The rating of one pair; `folded` is the user's row where that is not the model's."""
    users, items = model.users, model.items
    item = items.row(pair.item)
    if folded is not None:
        rating = model.scorer.predict_folded(folded.factors_F, folded.bias, np.array([item]))[0]
        return Prediction(float(rating), SOURCES[_source(folded, item < len(items))], model.version)
    user = users.row(pair.user)
    source = SOURCES[(user == len(users)) * 2 + (item == len(items))]
    return Prediction(model.scorer.predict_pair(user, item), source, model.version)


def predict(model: ServingModel, pairs: Pairs, fresh: Sequence[FreshUser] = ()) -> Predictions:
    """Rating of each pair, clipped to the scale; `fresh` are the users among them whose row is not the model's."""
    return predict_rows(model, *rows(model, pairs), fresh)


def predict_rows(model: ServingModel, users_B: Rows, items_B: Rows, fresh: Sequence[FreshUser] = ()) -> Predictions:
    """As `predict`, of pairs of rows."""
    sources_B = (users_B == len(model.users)) * np.uint8(2)
    sources_B += items_B == len(model.items)
    answer = Predictions(model.scorer.predict(users_B, items_B), sources_B, model.version)
    for positions_M, folded in fresh:
        answer.ratings_B[positions_M], answer.sources_B[positions_M] = _of_folded(model, folded, items_B[positions_M])
    return answer


def predict_together(model: ServingModel, jobs: Sequence[tuple[Pairs, Sequence[FreshUser]]]) -> list[Predictions]:
    """The predictions of each job. Those of jobs without fresh users are one gather-dot."""
    plain = [number for number, (_, fresh) in enumerate(jobs) if not fresh]
    answers = dict(zip(plain, _together(model, [jobs[number][0] for number in plain]), strict=True))
    return [
        answers[number] if number in answers else predict(model, pairs, fresh)
        for number, (pairs, fresh) in enumerate(jobs)
    ]


def predict_folded(model: ServingModel, folded: FoldedUser, items: Sequence[str]) -> Predictions:
    """What a folded user would give each of some items."""
    return Predictions(*_of_folded(model, folded, model.items.rows(items)), model.version)


def rows(model: ServingModel, pairs: Pairs) -> tuple[Rows, Rows]:
    """The rows of both columns."""
    return model.users.rows(pairs.users), model.items.rows(pairs.items)


def _of_folded(model: ServingModel, folded: FoldedUser, items_N: Rows) -> tuple[Ratings, npt.NDArray[np.uint8]]:
    """The ratings of some items, and what each rests on."""
    known_N = items_N < len(model.items)
    sources_N = np.where(known_N, _source(folded, True), _source(folded, False)).astype(np.uint8)
    return model.scorer.predict_folded(folded.factors_F, folded.bias, items_N), sources_N


def _source(folded: FoldedUser, item_is_known: bool) -> int:
    if folded.is_known and item_is_known:
        return FOLDED
    return 2 * (not folded.is_known) + (not item_is_known)


def _together(model: ServingModel, jobs: Sequence[Pairs]) -> list[Predictions]:
    if not jobs:
        return []
    users, items = zip(*(rows(model, pairs) for pairs in jobs), strict=True)
    together = predict_rows(model, np.concatenate(users), np.concatenate(items))
    ends = np.cumsum([len(pairs) for pairs in jobs])[:-1]
    parts = zip(np.split(together.ratings_B, ends), np.split(together.sources_B, ends), strict=True)
    return [Predictions(ratings_B, sources_B, model.version) for ratings_B, sources_B in parts]
