"""What a preset may say about the relevance head. This module does not know how the head is fitted."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RelevanceSettings(BaseModel):
    """Settings of the head: what a preset's `[relevance]` and `--set relevance.KEY=VALUE` may name.

    The target of a rating r is 1 + slope · (r − mean) / deviation, at least 0: no setting depends on the scale of the
    ratings. A cell without a rating has target 0 and weight `missing_weight` beside the 1 of a rating. A row pays
    regularisation · (sum of the weights of its cells)^exponent · |factors|²; a half and a quarter of that
    regularisation are tried too, on a tenth of the ratings.

    `factors` are solved by least squares over all cells. An item-to-item regression on the targets of the
    `regression_items` items with most ratings is added to their scores, 0 for none, and both together are published
    with at most `rank` factors, or `factors` where these are more. Where that is better, users are solved for on the
    columns of the regression, and `factors` has no part in the head.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    factors: int = Field(
        default=64, ge=1, le=1024, description="numbers that describe each user and each item for lists"
    )
    sweeps: int = Field(default=6, ge=1, description="times that all users and then all items are solved")
    slope: float = Field(default=0.28, ge=0, description="how much a high rating counts beside a low one")
    missing_weight: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="how much an item that a user has not rated counts beside one that they have",
    )
    regularisation: float = Field(default=0.4, gt=0, description="how strongly factors are held near zero")
    exponent: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="how the regularisation of a row grows with its weights: 0 not at all, 1 in proportion",
    )
    regression_items: int = Field(
        default=5000,
        ge=0,
        le=20_000,
        description="items with most ratings that an item-to-item regression uses; 0: none",
    )
    rank: int = Field(default=256, ge=1, le=1024, description="most factors that are published")
