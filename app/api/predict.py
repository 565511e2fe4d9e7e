"""POST /predict. Plain requests are answered by `app.api.fast_path`, with the same answers; this route has the rest."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Body, Query, Request, Response

from app.api.answering import prediction, predictions
from app.api.deps import EngineDep, LimitsDep
from app.api.encodings import arrow, json, msgpack
from app.api.limits import Limits
from app.api.openapi import problems
from app.api.schemas import (
    AnonymousColumnsRequest,
    AnonymousPairRequest,
    AnonymousPrediction,
    AnonymousPredictions,
    ColumnPredictions,
    Inline,
    PairPrediction,
    PairRequest,
    PredictRequest,
)
from app.engine.engine import Engine
from app.engine.types import InlineRatings, Pair, Pairs, Prediction, Predictions
from models.errors import UnknownItemError

router = APIRouter(tags=["predictions"])

EXAMPLES = {
    "pair": {"summary": "One pair", "value": {"user": "196", "item": "242"}},
    "columns": {"summary": "Pairs as columns", "value": {"users": ["196", "22", "196"], "items": ["242", "242", "50"]}},
    "anonymous": {
        "summary": "Somebody without an id, by what they rated",
        "value": {"item": "242", "ratings": [{"item": "50", "rating": 5}, {"item": "181", "rating": 4}]},
    },
    "unknown": {"summary": "A user nobody knows", "value": {"user": "nobody", "item": "242"}},
}
BINARY = {
    msgpack.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
    arrow.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
}


@router.post(
    "/predict",
    summary="What users would give items",
    response_model=PairPrediction | ColumnPredictions | AnonymousPrediction | AnonymousPredictions,
    responses=problems(404, 413, 422, 500, 503, 504) | {200: {"content": BINARY}},
    openapi_extra={"requestBody": {"content": BINARY}},
)
async def predict(
    request: Request,
    body: Annotated[PredictRequest, Body(openapi_examples=EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user or item.")] = False,
) -> Response:
    """Predict the rating of one pair, or of many pairs given as columns.

    An unknown user or item is answered from what is known, and `source` says so: `model` where both are known,
    `item_bias` where the user is not, `user_bias` where the item is not, `global_mean` where neither is.

    With `ratings` in place of the user, the prediction is for somebody who is known by these alone; nothing of them is
    kept. `source` is `fold_in`, as for users whose ratings are fresher than the model.

    The same documents for users go as msgpack. Large batches go fastest as an Arrow IPC stream with the columns `user`
    and `item`; its answer has the columns `rating` and `source`, and `model_version` in the metadata of its schema.
    """
    if isinstance(body, AnonymousPairRequest | AnonymousColumnsRequest):
        return await _anonymous(body, engine, limits, strict=strict)
    answer: Prediction | Predictions
    if isinstance(body, PairRequest):
        limits.check_id(body.user, "body", "user")
        limits.check_id(body.item, "body", "item")
        answer = await prediction(engine, Pair(body.user, body.item), request.receive, strict=strict)
    else:
        pairs = Pairs(body.users, body.items)
        limits.check_pairs(pairs)
        answer = await predictions(engine, pairs, request.receive, strict=strict)
    return Response(json.encode_predictions(answer), media_type=json.MEDIA_TYPE)


async def _anonymous(
    body: AnonymousPairRequest | AnonymousColumnsRequest, engine: Engine, limits: Limits, *, strict: bool
) -> Response:
    alone = isinstance(body, AnonymousPairRequest)
    items = [body.item] if isinstance(body, AnonymousPairRequest) else body.items
    limits.check_pairs(Pairs(items, items))
    answer, used = await engine.predictions.inline(inline(body.ratings, engine, limits), items)
    if strict:
        for position in np.flatnonzero(answer.sources_B % 2).tolist():  # the odd ones are of unknown items
            raise UnknownItemError(items[position], None if alone else position)
    shown: Prediction | Predictions = answer
    if alone:
        shown = answer.at(0)
    return Response(json.encode_predictions(shown, ratings_used=used), media_type=json.MEDIA_TYPE)


def inline(ratings: Inline, engine: Engine, limits: Limits) -> InlineRatings:
    """Ratings given with a request. Raises InvalidRequestError."""
    given = InlineRatings([rating.item for rating in ratings], [rating.rating for rating in ratings])
    limits.check_inline(given, engine.versions.scale)
    return given
