"""Why a user is predicted what they are, and which items are like another one. It knows rows and their arithmetic."""

from __future__ import annotations

import numpy as np
import torch

from app.engine.folding import RatedItems
from app.engine.serving_model import ServingModel
from app.engine.types import Explanation, Reason, SimilarItem, SimilarItems
from models.errors import UnknownItemError


def explain(model: ServingModel, user: str, item: str, rated: RatedItems, n: int) -> Explanation:
    """The prediction of an item for a user as a sum over their ratings, the n largest parts first.

    It is the prediction of the row that is folded in from them, which is linear in the ratings. Raises
    UnknownItemError.
    """
    row, title = item_row(model, item), model.catalogue.title
    sums = model.fold_in.users.contributions(rated.rows_M, rated.ratings_M, row)
    order_M = np.argsort(-np.abs(sums.parts_N), kind="stable")
    low, high = model.scorer.scale
    return Explanation(
        user=user,
        item=item,
        title=title(row).title,
        rating=float(min(max(sums.baseline + float(sums.parts_N.sum()), low), high)),
        baseline=sums.baseline,
        reasons=[
            Reason(reason.id, float(rated.ratings_M[at]), float(sums.parts_N[at]), reason.title)
            for at in order_M[:n].tolist()
            for reason in (title(int(rated.rows_M[at])),)
        ],
        others=float(sums.parts_N[order_M[n:]].sum()),
        version=model.version,
    )


@torch.inference_mode()
def similar(model: ServingModel, item: str, n: int) -> SimilarItems:
    """The n items whose factors point the most nearly in the same direction. Raises UnknownItemError.

    The factors are those of the order that lists have by default: of the relevance head where there is one.
    """
    rows_N, cosines_N = model.similar_items.to(item_row(model, item), n)
    return SimilarItems(
        item=item,
        items=[
            SimilarItem(title.id, similarity, title.title, title.year)
            for title, similarity in zip(map(model.catalogue.title, rows_N.tolist()), cosines_N.tolist(), strict=True)
        ],
        version=model.version,
    )


def item_row(model: ServingModel, item: str) -> int:
    """The row of an item. Raises UnknownItemError."""
    row = model.items.row(item)
    if row == len(model.items):
        raise UnknownItemError(item)
    return row
