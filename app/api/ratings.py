"""Users' ratings: stored, deleted, listed, explained, exported. The answer to a change comes when it is durable.

The next answer for that user, from any worker, uses it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from app.api.deps import EngineDep, LimitsDep
from app.api.encodings import json
from app.api.limits import Limits, check_scale
from app.api.openapi import problems
from app.api.parameters import BECAUSE, EXPORT, RATING, RATINGS, USER, Item, ModelVersion, User
from app.api.plain import JSON, GuardedRoute, PlainRoute, read_body, read_json, send_answer
from app.api.request_keys import KeyHeader, read_with_key, request_key
from app.api.schemas import answers
from app.api.schemas.requests import BulkRequest, RatingRequest
from app.engine.documents import Because, RatingsSummary, UserRatings
from app.engine.engine import Engine
from app.engine.types import ExplainedOrder
from app.errors import InvalidRequestError
from app.middleware.access import BY_NAME, Access, needs
from app.ratings.records import UNKNOWN_TIME, Delete, Erase, Put, PutMany, Rating

router = APIRouter(tags=["ratings"], route_class=GuardedRoute)

MOST_DAYS = 3_660
_bulk_body = TypeAdapter(BulkRequest)
_rating_body = TypeAdapter(RatingRequest)
CHANGE = problems(413, 422, 500, 501, 503)


@needs(Access.RATE)
def rate(
    user: User,
    item: Item,
    body: Annotated[RatingRequest, Body(openapi_examples={"five": {"value": {"rating": 5}}})],
) -> None:
    """Store a user's rating of an item, replacing an earlier one. The request can be repeated safely."""


async def store_rating(scope: Scope, receive: Receive, send: Send) -> None:
    """Plain JSON is decoded by msgspec, any other by pydantic."""
    limits: Limits = scope["state"]["limits"]
    engine: Engine = scope["state"]["engine"]
    media_type = scope[BY_NAME].get(b"content-type", b"")
    body = await read_body(receive)
    plain = json.decode_rating(body) if media_type == JSON else None
    given = plain or read_json(_rating_body, body, media_type, [], limits)
    user, item = scope["path_params"]["user"], scope["path_params"]["item"]
    limits.check_storable(user, "path", "user")
    limits.check_storable(item, "path", "item")
    check_scale(given.rating, engine.versions.scale, "body", "rating")
    timestamp = int(time.time()) if given.timestamp is None else given.timestamp
    await engine.ratings.change(Put(user, Rating(item, given.rating, timestamp)))
    model = engine.models.of_user(user)
    stored = {
        "user": user,
        "item": item,
        "rating": given.rating,
        "timestamp": timestamp,
        "known_item": item in model.items,
        "model_version": model.version,
    }
    await send_answer(send, json.encode(stored))


rating_route = PlainRoute(
    "PUT",
    RATING,
    store_rating,
    rate,
    tags=["ratings"],
    summary="Store a rating",
    response_model=answers.StoredRating,
    responses=CHANGE,
)


@router.delete(RATING, summary="Delete a rating", responses=CHANGE)
@needs(Access.RATE)
async def delete_rating(user: User, item: Item, engine: EngineDep, limits: LimitsDep) -> answers.RemovedRating:
    """Delete a rating, also one that is only in the training data. The request can be repeated safely."""
    limits.check_storable(user, "path", "user")
    limits.check_storable(item, "path", "item")
    await engine.ratings.change(Delete(user, item))
    return answers.RemovedRating(user=user, item=item, model_version=engine.models.of_user(user).version)


@router.get(RATINGS, summary="List the ratings of a user", responses=problems(413, 422, 500, 503))
async def ratings(user: User, engine: EngineDep, limits: LimitsDep) -> UserRatings:
    """List all ratings that count for a user: the stored ones, and those of the training data that none replaces."""
    limits.check_id(user, "path", "user")
    return await engine.ratings.of(user)


@needs(Access.RATE)
def rate_many(
    body: Annotated[
        BulkRequest,
        Body(openapi_examples={"two": {"value": {"users": ["196", "7"], "items": ["242", "50"], "ratings": [4, 5]}}}),
    ],
    idempotency_key: KeyHeader = None,
) -> None:
    """Store ratings given as columns, all of them or none."""


async def store_ratings(scope: Scope, receive: Receive, send: Send) -> None:
    limits: Limits = scope["state"]["limits"]
    engine: Engine = scope["state"]["engine"]
    body, key = await read_with_key(scope, receive, _bulk_body)
    scale = engine.versions.scale
    bulk = await asyncio.to_thread(_bulk, body, limits, scale, key)  # a large one takes long
    await engine.ratings.change(bulk)
    model = engine.models.of_users(body.users)
    unknown = await asyncio.to_thread(model.count_unknown, body.items)
    await send_answer(
        send, json.encode({"stored": len(bulk.users), "unknown_items": unknown, "model_version": model.version})
    )


ratings_route = PlainRoute(
    "POST",
    "/ratings",
    store_ratings,
    rate_many,
    tags=["ratings"],
    summary="Store many ratings",
    response_model=answers.StoredRatings,
    responses=problems(409, 413, 422, 500, 501, 503),
)


@router.get("/ratings", summary="What is stored", responses=problems(413, 422, 500, 501, 503))
@needs(Access.CHANGE)
async def ratings_summary(
    engine: EngineDep,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="How many days back `days` goes.")] = 30,
) -> RatingsSummary:
    """Count what is in the store: ratings over time, and what has come since the served model was fitted.

    Every rating is read for it, so it needs an admin key where there are keys.
    """
    return await engine.ratings.summary(days)


@router.get(BECAUSE, summary="Explain a prediction", responses=problems(404, 413, 422, 500, 503, 504))
async def because(
    user: User,
    item: Item,
    engine: EngineDep,
    limits: LimitsDep,
    n: Annotated[int, Query(ge=1, description="Number of ratings to list, largest contributions first.")] = 10,
    rank_by: Annotated[ExplainedOrder, Query(description="What is explained.")] = ExplainedOrder.RATING,
    model_version: ModelVersion = None,
) -> Because:
    """The user's ratings by their part in what they are shown of the item. 404 for a user without ratings.

    With `rank_by=relevance` it is the score that orders lists by relevance, else the expected rating. `baseline`, every
    `contribution`, `others` and `fitted` add up to `score`, which is the number that is served.
    """
    limits.check_id(user, "path", "user")
    limits.check_id(item, "path", "item")
    limits.check_list(n, "query", "n")
    return await engine.predictions.explain(user, item, n, rank_by, model_version)


@router.get(EXPORT, summary="Export the data of a user", responses=problems(413, 422, 500, 503))
async def export_user(user: User, engine: EngineDep, limits: LimitsDep) -> answers.UserExport:
    """Everything that the service has about a user: their ratings, and their row of the model."""
    limits.check_id(user, "path", "user")
    held, row = await engine.ratings.export(user)
    return answers.UserExport(**held.model_dump(), known_to_model=row is not None, row=row)


@router.delete(USER, summary="Delete a user", responses=CHANGE)
async def delete_user(user: User, engine: EngineDep, limits: LimitsDep) -> answers.ErasedUser:
    """Delete all ratings of a user, who is unknown from then on.

    A later fit on the store has no row for the user. Versions that were published before keep the row
    on disk until they are pruned, but the service does not use it.
    """
    limits.check_storable(user, "path", "user")
    await engine.ratings.change(Erase(user))
    return answers.ErasedUser(user=user, model_version=engine.models.of_user(user).version)


def _bulk(body: BulkRequest, limits: Limits, scale: tuple[float, float], key: str | None) -> PutMany:
    """The change to make. Raises InvalidRequestError for the first error."""
    number = len(body.ratings)
    stamps = [int(time.time())] * number if body.timestamps is None else body.timestamps
    if not len(body.users) == len(body.items) == len(stamps) == number:
        raise InvalidRequestError(("body",), "the columns must have the same length")
    if number > limits.pairs:
        raise InvalidRequestError(("body",), f"a request holds at most {limits.pairs} ratings (RATECAST_MAX_PAIRS)")
    for position, (user, item, rating) in enumerate(zip(body.users, body.items, body.ratings, strict=True)):
        limits.check_storable(user, "body", "users", str(position))
        limits.check_storable(item, "body", "items", str(position))
        check_scale(rating, scale, "body", "ratings", str(position))
    ratings = [
        Rating(item, rating, UNKNOWN_TIME if stamp is None else stamp)
        for item, rating, stamp in zip(body.items, body.ratings, stamps, strict=True)
    ]
    return PutMany(body.users, ratings, request_key(key, body))
