"""POST /predict."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query

from app.deps import EngineDep, LimitsDep
from app.openapi import problems
from app.schemas import ColumnPredictions, ColumnsRequest, PairPrediction, PairRequest, PredictRequest

router = APIRouter(tags=["predictions"])

EXAMPLES = {
    "pair": {"summary": "One pair", "value": {"user": "196", "item": "242"}},
    "columns": {"summary": "Pairs as columns", "value": {"users": ["196", "22", "196"], "items": ["242", "242", "50"]}},
    "unknown": {"summary": "A user nobody knows", "value": {"user": "nobody", "item": "242"}},
}


@router.post("/predict", summary="What users would give items", responses=problems(404, 413, 422, 500, 503))
async def predict(
    body: Annotated[PredictRequest, Body(openapi_examples=EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user or item.")] = False,
) -> PairPrediction | ColumnPredictions:
    """Predict the rating of one pair, or of many pairs given as columns.

    An unknown user or item is answered from what is known, and `source` says so: `model` where both are known,
    `item_bias` where the user is not, `user_bias` where the item is not, `global_mean` where neither is.
    """
    if isinstance(body, PairRequest):
        return await _pair(body, engine, limits, strict=strict)
    return await _columns(body, engine, limits, strict=strict)


async def _pair(body: PairRequest, engine: EngineDep, limits: LimitsDep, *, strict: bool) -> PairPrediction:
    limits.check_id(body.user, "body", "user")
    limits.check_id(body.item, "body", "item")
    answer = await engine.predict_pair(body.user, body.item, strict=strict)
    return PairPrediction(rating=answer.ratings[0], source=answer.sources[0], model_version=answer.version)


async def _columns(body: ColumnsRequest, engine: EngineDep, limits: LimitsDep, *, strict: bool) -> ColumnPredictions:
    limits.check_pairs(body.users, body.items)
    answer = await engine.predict(body.users, body.items, strict=strict)
    return ColumnPredictions(ratings=answer.ratings, sources=answer.sources, model_version=answer.version)
