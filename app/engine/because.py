"""Why a user is shown what they are: the number that was served as a sum over the user's ratings.

What follows from ratings alone is linear in them, so its parts are exact. A row that was fitted differs from that a
little, because it was learned together with all other rows; the difference is a part of its own. Shapes: M ratings.
"""

from __future__ import annotations

import numpy as np

from app.engine.documents import Because, Reason
from app.engine.folding import FoldedUser, RatedItems
from app.engine.lists import ListUser, in_order
from app.engine.serving_model import ServingModel
from app.engine.types import ExplainedOrder, RankBy, shortest
from models.fold_in import Contributions


def explain(
    model: ServingModel,
    user: str,
    item: int,
    rated: RatedItems,
    folded: FoldedUser | None,
    n: int,
    order: ExplainedOrder,
) -> Because:
    """What orders an item (a row) for a user, the n largest parts first. `folded` is their row if not the model's."""
    row, items_1 = len(model.users) if folded is not None else model.users.row(user), np.array([item])
    scores = {}
    for rank_by in {RankBy.RATING, RankBy(order)}:
        ordering, at = in_order(model, rank_by, ListUser(row, folded))
        (scores[rank_by],) = shortest(ordering.scores(at, items_1))
    score, sums = scores[RankBy(order)], _contributions(model, rated, item, order)
    order_M = np.argsort(-np.abs(sums.parts_N), kind="stable")
    low, high = model.scorer.scale
    title = model.catalogue.title
    listed = order_M[:n]
    ratings, parts = shortest(rated.ratings_M[listed]), sums.parts_N[listed].tolist()  # parts are float64: they add up
    titles = map(title, rated.rows_M[listed].tolist())
    return Because(
        user=user,
        item=title(item).id,
        title=title(item).title,
        rating=min(max(scores[RankBy.RATING], low), high),
        rank_by=order,
        score=score,
        baseline=sums.baseline,
        reasons=[
            Reason(item=known.id, rating=rating, contribution=part, title=known.title)
            for known, rating, part in zip(titles, ratings, parts, strict=True)
        ],
        others=float(sums.parts_N[order_M[n:]].sum()),
        fitted=score - sums.baseline - float(sums.parts_N.sum()),
        model_version=model.version,
    )


def _contributions(model: ServingModel, rated: RatedItems, item: int, order: ExplainedOrder) -> Contributions:
    head = model.fold_in.head
    if order is ExplainedOrder.RATING or head is None:
        return model.fold_in.users.contributions(*rated, item)
    return Contributions(0.0, head.contributions(*rated, item))
