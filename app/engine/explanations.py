"""Why a user is predicted what they are, and which items are like another one. It knows rows and their arithmetic."""

from __future__ import annotations

import numpy as np
import torch

from app.engine.fresh_users import Rated
from app.engine.serving_model import Served
from app.engine.types import Explanation, Reason, SimilarItem, SimilarItems
from models.errors import UnknownItemError


def explain(served: Served, user: str, item: str, rated: Rated, n: int) -> Explanation:
    """The prediction of an item for a user as a sum over their ratings, the n largest parts first.

    It is the prediction of the row that is folded in from them, which is linear in the ratings. Raises
    UnknownItemError.
    """
    row = item_row(served, item)
    sums = served.fold_in.users.contributions(rated.rows_M, rated.ratings_M, row)
    order_M = np.argsort(-np.abs(sums.parts_N), kind="stable")
    low, high = served.scorer.scale
    return Explanation(
        user=user,
        item=item,
        title=served.title(row).title,
        rating=float(min(max(sums.baseline + float(sums.parts_N.sum()), low), high)),
        baseline=sums.baseline,
        reasons=[
            Reason(title.id, float(rated.ratings_M[at]), float(sums.parts_N[at]), title.title)
            for at in order_M[:n].tolist()
            for title in (served.title(int(rated.rows_M[at])),)
        ],
        others=float(sums.parts_N[order_M[n:]].sum()),
        version=served.version,
    )


@torch.inference_mode()
def similar(served: Served, item: str, n: int) -> SimilarItems:
    """The n items whose factors point the most nearly in the same direction. Raises UnknownItemError.

    The factors are those of the order that lists have by default: of the relevance head where there is one.
    """
    row = item_row(served, item)
    rows_N, cosines_N = served.nearest.to(row, n)
    return SimilarItems(
        item=item,
        items=[
            SimilarItem(title.id, similarity, title.title, title.year)
            for title, similarity in zip(map(served.title, rows_N.tolist()), cosines_N.tolist(), strict=True)
        ],
        version=served.version,
    )


def item_row(served: Served, item: str) -> int:
    """Raises UnknownItemError for an item that is not the model's."""
    row = served.checkpoint.items.row(item)
    if row == len(served.checkpoint.items):
        raise UnknownItemError(item)
    return row
