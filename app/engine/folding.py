"""Computes the row of a user from ratings alone. Shapes: F factors, G of the relevance head, M ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.engine.serving_model import ServingModel


class RatedItems(NamedTuple):
    """Ratings of items of the model: distinct rows, and float64 ratings."""

    rows_M: npt.NDArray[np.int64]
    ratings_M: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FoldedUser:
    """A user whose row was solved from their ratings."""

    factors_F: npt.NDArray[np.float32]  # p
    bias: np.float32  # b
    variance: np.float32 | None  # what not knowing the row exactly adds to that of a rating; None: the model has none
    head_G: npt.NDArray[np.float32] | None  # x of the relevance head, None if there is none
    rated_M: npt.NDArray[np.int32]  # rows of the items they rated

    @property
    def is_known(self) -> bool:
        """Whether there was any rating to solve the row from."""
        return len(self.rated_M) > 0


class FoldedRows(NamedTuple):
    """What predictions need of folded-in users: of one, or as arrays of one for each of B pairs."""

    factors: npt.NDArray[np.float32]
    bias: Any
    variance: Any  # None if the model has none
    is_known: Any

    @classmethod
    def of(cls, user: FoldedUser) -> FoldedRows:
        """The row of one user."""
        return cls(user.factors_F, user.bias, user.variance, user.is_known)

    @classmethod
    def repeated(cls, users: Sequence[FoldedUser], pairs: Sequence[int]) -> FoldedRows:
        """The row of each of some users, as often as they have pairs."""
        factors, bias, variance, known = zip(*(cls.of(user) for user in users), strict=True)

        def spread(column: Sequence[Any]) -> Any:
            return None if column[0] is None else np.repeat(np.stack(column), pairs, axis=0)

        return cls(spread(factors), spread(bias), spread(variance), spread(known))


def fold(model: ServingModel, rated: RatedItems, *, lists: bool = True) -> FoldedUser:
    """Solve the row of a user. Without `lists` the relevance head is left out."""
    row = model.fold_in.users.solve(*rated)
    head, variance = model.fold_in.head if lists else None, None
    if model.unknown_variance is not None:  # what an unknown user adds, less what the ratings tell
        learned = model.fold_in.users.prior_variance - row.variance
        variance = np.float32(max(model.unknown_variance - learned, 0.0))
    return FoldedUser(
        factors_F=row.factors,
        bias=row.bias,
        variance=variance,
        head_G=None if head is None else head.solve(*rated),
        rated_M=rated.rows_M.astype(np.int32),
    )


def known_items(model: ServingModel, items: Sequence[str], ratings: Sequence[float]) -> RatedItems:
    """Those of some ratings that are of items of the model."""
    rows_M = model.items.rows(items)
    known_M = rows_M < len(model.items)
    return RatedItems(rows_M[known_M], np.asarray(ratings, np.float64)[known_M])
