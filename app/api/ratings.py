"""What users rated: stored, taken back, shown, explained, erased. A change is answered when it is durable.

The next answer for that user counts it, whichever worker gives it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from app.api.deps import EngineDep, LimitsDep
from app.api.encodings import json
from app.api.limits import Limits, check_scale
from app.api.openapi import problems
from app.api.parameters import Item, User
from app.api.paths import BECAUSE, EXPORT, RATING, RATINGS, USER
from app.api.plain import PlainRoute
from app.api.reading import JSON, Errors, raise_if, read_body, read_json, send_answer
from app.api.schemas import ratings as schemas
from app.engine import types
from app.engine.engine import Engine
from app.errors import InvalidRequestError
from app.middleware.access import BY_NAME, Access, needs
from app.ratings.records import PutMany, Rating

router = APIRouter(tags=["ratings"])

MAX_KEY_LENGTH = 256
_rating_body = TypeAdapter(schemas.RatingRequest)
CHANGE = problems(413, 422, 500, 501, 503)


def plain_routes(limits: Limits) -> list[PlainRoute]:
    """The route that stores one rating, and holds requests to these limits."""
    return [
        PlainRoute(
            "PUT",
            RATING,
            PutRating(limits),
            rate,
            tags=["ratings"],
            summary="Store a rating",
            response_model=schemas.StoredRating,
            responses=CHANGE,
        )
    ]


@needs(Access.RATE)
def rate(
    user: User,
    item: Item,
    body: Annotated[schemas.RatingRequest, Body(openapi_examples={"five": {"value": {"rating": 5}}})],
) -> None:
    """Store what a user gave an item, in place of what was there. Doing it twice is doing it once."""


class PutRating:
    """The endpoint that stores one rating. Plain JSON is decoded by msgspec, any other by pydantic."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope[BY_NAME]
        media_type = headers.get(b"content-type", b"")
        body = await read_body(headers, receive, self._limits.body)
        given = json.decode_rating(body) if media_type == JSON else None
        value, timestamp = (given.rating, given.timestamp) if given else _read_rating(body, media_type)
        engine: Engine = scope["state"]["engine"]
        user, item = scope["path_params"]["user"], scope["path_params"]["item"]
        self._limits.check_storable(user, "path", "user")
        self._limits.check_storable(item, "path", "item")
        check_scale(value, engine.versions.scale, "body", "rating")
        rating = Rating(item, value, int(time.time()) if timestamp is None else timestamp)
        await engine.ratings.put(user, rating)
        await send_answer(send, json.encode_members(_stored(engine, user, rating)))


def _read_rating(body: bytes, media_type: bytes) -> tuple[float, int | None]:
    """A rating and its time. Raises RequestValidationError."""
    errors: Errors = []
    given = read_json(_rating_body, body, media_type, errors)
    raise_if(errors)
    assert given is not None  # noqa: S101 - else there are errors
    return given.rating, None if given.timestamp is None else int(given.timestamp)


def _stored(engine: Engine, user: str, rating: Rating) -> dict[str, object]:
    return {
        "user": user,
        "item": rating.item,
        "rating": rating.rating,
        "timestamp": rating.timestamp,
        "known_item": engine.ratings.knows_item(rating.item),
        "model_version": engine.versions.manifest.version,
    }


@router.delete(RATING, summary="Take a rating back", responses=CHANGE)
@needs(Access.RATE)
async def unrate(user: User, item: Item, engine: EngineDep, limits: LimitsDep) -> schemas.RemovedRating:
    """Remove a rating, also one that is only in the training data. Doing it twice is doing it once."""
    limits.check_storable(user, "path", "user")
    limits.check_storable(item, "path", "item")
    await engine.ratings.delete(user, item)
    return schemas.RemovedRating(user=user, item=item, model_version=engine.versions.manifest.version)


@router.get(RATINGS, summary="What a user rated", responses=problems(413, 422, 500, 503))
async def ratings(user: User, engine: EngineDep, limits: LimitsDep) -> schemas.UserRatings:
    """All ratings that count for a user: the stored ones, and those of the training data that were not replaced."""
    limits.check_id(user, "path", "user")
    return _shown(await engine.ratings.of(user))


@router.post("/ratings", summary="Store many ratings", responses=problems(409, 413, 422, 500, 501, 503))
@needs(Access.RATE)
async def rate_many(
    body: Annotated[
        schemas.BulkRequest,
        Body(openapi_examples={"two": {"value": {"users": ["196", "7"], "items": ["242", "50"], "ratings": [4, 5]}}}),
    ],
    engine: EngineDep,
    limits: LimitsDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_KEY_LENGTH,
            description="A request with a key that was used in the last seven days is answered and not done again.",
        ),
    ] = None,
) -> schemas.StoredRatings:
    """Store ratings given as columns, all of them or none."""
    if idempotency_key is not None and not idempotency_key.isprintable():
        raise InvalidRequestError(("header", "Idempotency-Key"), "a key consists of printable characters")
    scale = engine.versions.scale
    bulk = await asyncio.to_thread(_bulk, body, limits, scale, idempotency_key)  # a large one takes long
    await engine.ratings.put_many(bulk)
    return schemas.StoredRatings(
        stored=len(bulk.users),
        unknown_items=sum(not engine.ratings.knows_item(item) for item in body.items),
        model_version=engine.versions.manifest.version,
    )


@router.get(BECAUSE, summary="Why a prediction is what it is", responses=problems(404, 413, 422, 500, 503, 504))
async def because(
    user: User,
    item: Item,
    engine: EngineDep,
    limits: LimitsDep,
    n: Annotated[int, Query(ge=1, description="How many ratings are listed, those with the largest parts first.")] = 10,
) -> schemas.Because:
    """The user's ratings by their part in the prediction of the item. 404 for a user without ratings.

    The parts are exact: `baseline`, every `contribution` and `others` add up to the prediction that follows from the
    ratings alone. For a user whose ratings the model was fitted on, `POST /predict` answers from the fitted row, which
    may differ a little.
    """
    limits.check_id(user, "path", "user")
    limits.check_id(item, "path", "item")
    limits.check_list(n, "query", "n")
    found = await engine.predictions.explain(user, item, n)
    return schemas.Because(
        user=user,
        item=item,
        title=found.title,
        rating=found.rating,
        baseline=found.baseline,
        reasons=[schemas.Reason(**reason._asdict()) for reason in found.reasons],
        others=found.others,
        model_version=found.version,
    )


@router.get(EXPORT, summary="All that is held of a user", responses=problems(413, 422, 500, 503))
async def export(user: User, engine: EngineDep, limits: LimitsDep) -> schemas.UserExport:
    """For a person who asks what is known of them: their ratings, and what the model learned of them."""
    limits.check_id(user, "path", "user")
    shown = _shown(await engine.ratings.of(user))
    row = await engine.ratings.row_of(user)
    return schemas.UserExport(
        **shown.model_dump(), known_to_model=row is not None, row=None if row is None else schemas.UserRow(**row)
    )


@router.delete(USER, summary="Erase a user", responses=CHANGE)
async def erase(user: User, engine: EngineDep, limits: LimitsDep) -> schemas.ErasedUser:
    """Remove all ratings of a user. From now on they are answered as an unknown user.

    A model that is fitted on the store after this has no row for them. Versions that were published before keep theirs
    on disk until they are pruned; it is not used.
    """
    limits.check_storable(user, "path", "user")
    await engine.ratings.erase(user)
    return schemas.ErasedUser(user=user, model_version=engine.versions.manifest.version)


def _bulk(body: schemas.BulkRequest, limits: Limits, scale: tuple[float, float], key: str | None) -> PutMany:
    """The change that is asked for. Raises InvalidRequestError for the first thing that is wrong."""
    if not len(body.users) == len(body.items) == len(body.ratings):
        raise InvalidRequestError(("body",), "columns are of one length")
    if body.timestamps is not None and len(body.timestamps) != len(body.ratings):
        raise InvalidRequestError(("body",), "columns are of one length")
    if len(body.users) > limits.pairs:
        raise InvalidRequestError(("body",), f"a request holds at most {limits.pairs} ratings")
    for position, (user, item, rating) in enumerate(zip(body.users, body.items, body.ratings, strict=True)):
        limits.check_storable(user, "body", "users", str(position))
        limits.check_storable(item, "body", "items", str(position))
        check_scale(rating, scale, "body", "ratings", str(position))
    stamps = [int(time.time())] * len(body.ratings) if body.timestamps is None else map(int, body.timestamps)
    ratings = [Rating(*row) for row in zip(body.items, body.ratings, stamps, strict=True)]
    fingerprint = hashlib.sha256(body.model_dump_json().encode("utf-8", "surrogatepass")).hexdigest()
    return PutMany(body.users, ratings, key, fingerprint)


def _shown(found: types.UserRatings) -> schemas.UserRatings:
    return schemas.UserRatings(
        user=found.user,
        ratings=[schemas.UserRating(**rating._asdict()) for rating in found.ratings],
        model_version=found.version,
    )
