"""`POST /predict`, a plain route: one pair or columns of pairs, of users or of ratings given with the request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias

import numpy as np
from fastapi import Body, Query
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from app.api.encodings import arrow, json, msgpack
from app.api.limits import Limits
from app.api.openapi import problems
from app.api.parameters import PredictParameters
from app.api.plain import (
    JSON,
    Errors,
    PlainRoute,
    check_values,
    client_gone,
    raise_if,
    read_body,
    read_json,
    read_parameters,
    send_answer,
)
from app.api.schemas.answers import AnonymousPrediction, AnonymousPredictions, ColumnPredictions, PairPrediction
from app.api.schemas.requests import (
    AnonymousColumnsRequest,
    AnonymousPairRequest,
    ColumnsRequest,
    Inline,
    PairRequest,
    PredictRequest,
)
from app.engine.engine import Engine
from app.engine.types import FOLDED, SOURCES, InlineRatings, Pair, Pairs, Predictions, Source
from app.errors import InvalidRequestError
from app.middleware.access import BY_NAME, Access, needs
from app.middleware.large_bodies import LARGE_BODY
from app.middleware.reporting import VERSION
from models.errors import UnknownItemError, UnknownUserError

SMALL_STREAM = 1 << 14  # bytes: an Arrow stream of 128 kB may be of 600 batches, each of which takes 100 µs
EXAMPLES = {
    "pair": {"summary": "One pair", "value": {"user": "196", "item": "242"}},
    "columns": {"summary": "Pairs as columns", "value": {"users": ["196", "22", "196"], "items": ["242", "242", "50"]}},
    "anonymous": {
        "summary": "A user without an id, from their ratings",
        "value": {"item": "242", "ratings": [{"item": "50", "rating": 5}, {"item": "181", "rating": 4}]},
    },
    "unknown": {"summary": "An unknown user", "value": {"user": "nobody", "item": "242"}},
}
# Their `decode` raises a ValueError, whose message does not repeat the body.
BINARY: Mapping[bytes, Any] = {encoding.MEDIA_TYPE.encode(): encoding for encoding in (msgpack, arrow)}
ARROW = arrow.MEDIA_TYPE.encode()
BINARY_CONTENT = {name.decode(): {"schema": {"type": "string", "format": "binary"}} for name in BINARY}

Asked: TypeAlias = Pair | Pairs | AnonymousPairRequest | AnonymousColumnsRequest
_json_body: TypeAdapter[PairRequest | ColumnsRequest | AnonymousPairRequest | AnonymousColumnsRequest] = TypeAdapter(
    PredictRequest
)


@needs(Access.READ)
def predict(
    body: Annotated[PredictRequest, Body(openapi_examples=EXAMPLES)], parameters: Annotated[PredictParameters, Query()]
) -> None:
    """Predict the rating of one pair, or of many pairs given as columns.

    For an unknown user or item the answer is an average. `source` is `model` if both are known,
    `item_bias` if the user is unknown, `user_bias` if the item is unknown, `global_mean` if both are.

    With `ratings` instead of the user, the prediction is made from these ratings alone. They are not
    stored. `source` is `fold_in`, as for users whose ratings are newer than the model.

    Requests for users can also be msgpack. Large batches are fastest as an Arrow IPC stream with the columns `user`
    and `item`; its answer has the columns `rating` and `source`, with intervals also `low` and `high`, and
    `model_version` in the metadata of its schema.
    """


async def answer_predict(scope: Scope, receive: Receive, send: Send) -> None:
    """JSON of the two forms that matter most is decoded by msgspec, any other JSON by pydantic."""
    limits: Limits = scope["state"]["limits"]
    engine: Engine = scope["state"]["engine"]
    media_type = scope[BY_NAME].get(b"content-type", b"")
    body = await read_body(receive)
    large = len(body) > (SMALL_STREAM if media_type == ARROW else LARGE_BODY)
    errors: Errors = []
    query, strict, intervals, wanted = scope["query_string"], False, False, None
    if query:
        parameters = read_parameters(PredictParameters, query, errors)
        strict, intervals = parameters.get("strict", False), parameters.get("intervals", False)
        wanted = parameters.get("model_version")
    given = body, media_type, errors, limits
    asked = await asyncio.to_thread(_decode, *given) if large else _decode(*given)
    encode = BINARY.get(media_type, json).encode_predictions
    if isinstance(asked, Pair):
        one = await engine.predictions.pair(asked, partial(client_gone, receive), intervals=intervals, version=wanted)
        version = one.version
        if strict:
            _refuse_unknown(*asked, one.source)
        content = encode(one)
    elif isinstance(asked, Pairs):
        answer = await engine.predictions.pairs(
            asked, partial(client_gone, receive), intervals=intervals, version=wanted
        )
        version = answer.version
        if strict:
            _refuse_first_unknown(asked, answer)
        content = await asyncio.to_thread(encode, answer) if large else encode(answer)
    else:
        answer, content = await _predict_anonymous(
            asked, engine, limits, strict=strict, intervals=intervals, version=wanted
        )
        version = answer.version
    if engine.models.beside is not None:
        scope[VERSION] = version
    await send_answer(send, content, media_type if media_type in BINARY else JSON)


predict_route = PlainRoute(
    "POST",
    "/predict",
    answer_predict,
    predict,
    tags=["predictions"],
    summary="Predict ratings",
    response_model=PairPrediction | ColumnPredictions | AnonymousPrediction | AnonymousPredictions,
    responses=problems(404, 413, 422, 500, 503, 504) | {200: {"content": BINARY_CONTENT}},
    openapi_extra={"requestBody": {"content": BINARY_CONTENT}},
)


def _decode(body: bytes, media_type: bytes, errors: Errors, limits: Limits) -> Asked:
    """The decoded body, checked against the limits. Raises RequestValidationError or InvalidRequestError."""
    if media_type == JSON and not errors:
        if len(body) > LARGE_BODY and sum(map(body.count, (b",", b"[", b"{"))) > limits.values:  # in texts too
            check_values(body, limits)
        plain = json.decoder(limits.id_length)(body)
        if isinstance(plain, Pair) or (plain is not None and limits.allow(plain)):
            return plain
    asked = (
        _decode_binary(body, media_type, errors, limits)
        if media_type in BINARY
        else _decode_json(body, media_type, errors, limits)
    )
    if isinstance(asked, Pair):
        limits.check_id(asked.user, "body", "user")
        limits.check_id(asked.item, "body", "item")
    elif isinstance(asked, Pairs):
        limits.check_pairs(asked)
    elif isinstance(asked, AnonymousPairRequest):
        limits.check_id(asked.item, "body", "item")
    else:
        limits.check_column(asked.items, "body", "items")
    return asked


async def _predict_anonymous(
    asked: AnonymousPairRequest | AnonymousColumnsRequest,
    engine: Engine,
    limits: Limits,
    *,
    strict: bool,
    intervals: bool,
    version: str | None,
) -> tuple[Predictions, bytes]:
    alone = isinstance(asked, AnonymousPairRequest)
    items = [asked.item] if isinstance(asked, AnonymousPairRequest) else asked.items
    given = inline(asked.ratings, engine, limits)
    answer, used = await engine.predictions.inline(given, items, intervals=intervals, version=version)
    if strict:
        for position in np.flatnonzero(answer.sources_B % 2).tolist():  # the odd ones are of unknown items
            raise UnknownItemError(items[position], None if alone else position)
    return answer, json.encode_predictions(answer.at(0) if alone else answer, ratings_used=used)


def inline(ratings: Inline, engine: Engine, limits: Limits) -> InlineRatings:
    """Ratings given with a request. Raises InvalidRequestError."""
    given = InlineRatings([rating.item for rating in ratings], [rating.rating for rating in ratings])
    limits.check_inline(given, engine.versions.scale)
    return given


def _decode_binary(body: bytes, media_type: bytes, errors: Errors, limits: Limits) -> Pair | Pairs:
    try:
        asked: Pair | Pairs = BINARY[media_type].decode(body, limits.pairs)
    except ValueError as error:
        raise InvalidRequestError(("body",), str(error)) from error
    raise_if(errors)
    return asked


def _decode_json(body: bytes, media_type: bytes, errors: Errors, limits: Limits) -> Asked:
    request = read_json(_json_body, body, media_type, errors, limits, tagged=True)
    if isinstance(request, PairRequest):
        return Pair(request.user, request.item)
    if isinstance(request, ColumnsRequest):
        return Pairs(request.users, request.items)
    return request


def _refuse_first_unknown(pairs: Pairs, answer: Predictions) -> None:
    for at in np.flatnonzero((answer.sources_B > 0) & (answer.sources_B < FOLDED))[:1].tolist():
        _refuse_unknown(str(pairs.users[at]), str(pairs.items[at]), SOURCES[answer.sources_B[at]], at)


def _refuse_unknown(user: str, item: str, source: Source, position: int | None = None) -> None:
    """Raise UnknownUserError or UnknownItemError if a prediction's source says that the id is unknown."""
    if source in (Source.ITEM_BIAS, Source.GLOBAL_MEAN):
        raise UnknownUserError(user, position)
    if source is Source.USER_BIAS:
        raise UnknownItemError(item, position)
