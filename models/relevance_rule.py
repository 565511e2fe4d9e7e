"""How the relevance head weighs ratings: the target of a rating, the weight of all cells of a row, and its penalty.

A row solves Σ weight·(target − x·y)² over all cells plus penalty·‖x‖². Whoever fits the head and whoever folds a user
into it apply this rule. It knows numbers, arrays and tensors alike. It does not import torch, nor know who fits.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Numbers = TypeVar("Numbers")


def targets(ratings: Any, mean: Any, deviation: Any, slope: float) -> Any:
    """The target of each rating: 1 + slope · (rating − mean) / deviation, at least 0. That of an unrated cell is 0."""
    return (1 + slope * ((ratings - mean) / deviation)).clip(min=0)


def total_weight(missing_weight: float, columns: int, rated: Numbers) -> Numbers:
    """The sum of the weights of a row's cells: 1 for each rated one, `missing_weight` for each other one."""
    weight: Any = missing_weight * columns + (1 - missing_weight) * rated  # type: ignore[operator]
    return weight  # type: ignore[no-any-return]


def penalty(regularisation: float, weights: Numbers, exponent: float) -> Numbers:
    """What ‖x‖² costs a row whose cells have these weights in all."""
    return regularisation * weights**exponent  # type: ignore[operator, no-any-return]


class RelevanceRule(BaseModel):
    """The rule as a checkpoint keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    deviation: Annotated[float, Field(gt=0)]
    slope: Annotated[float, Field(ge=0)]
    missing_weight: Annotated[float, Field(gt=0, lt=1)]
    regularisation: Annotated[float, Field(gt=0)]
    exponent: Annotated[float, Field(ge=0, le=1)]

    def targets(self, ratings: Any) -> Any:
        return targets(ratings, self.mean, self.deviation, self.slope)

    def penalty(self, columns: int, rated: int) -> float:
        """Of a row that has `rated` of all `columns` rated."""
        return penalty(self.regularisation, total_weight(self.missing_weight, columns, rated), self.exponent)
