"""What a route does between decoding and encoding: ask the engine, and stop where the client has gone.

Routes and the front door share it. `receive` is that of ASGI, with the request's body already taken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from starlette.types import Receive

from app.api.limits import Limits, check_scale
from app.engine.engine import Engine
from app.engine.types import (
    FOLDED,
    SOURCES,
    ListQuery,
    ListSource,
    Pair,
    Pairs,
    Prediction,
    Predictions,
    Source,
    TopList,
)
from app.ratings.records import Rating
from models.errors import UnknownItemError, UnknownUserError


async def prediction(engine: Engine, pair: Pair, receive: Receive, *, strict: bool = False) -> Prediction:
    """The answer to one pair. With `strict`, raises UnknownUserError or UnknownItemError for an unknown id."""
    answer = await engine.predictions.pair(pair, partial(gone, receive))
    if strict:
        refuse_unknown(*pair, answer.source)
    return answer


async def predictions(engine: Engine, pairs: Pairs, receive: Receive, *, strict: bool = False) -> Predictions:
    """The answer to each pair. With `strict`, raises UnknownUserError or UnknownItemError for the first unknown id."""
    answer = await engine.predictions.pairs(pairs, partial(gone, receive))
    if strict and (unknown_B := (answer.sources_B > 0) & (answer.sources_B < FOLDED)).any():
        first = int(np.flatnonzero(unknown_B)[0])
        source = SOURCES[answer.sources_B[first]]
        refuse_unknown(str(pairs.users[first]), str(pairs.items[first]), source, first)
    return answer


async def top_list(engine: Engine, query: ListQuery, receive: Receive, *, strict: bool = False) -> TopList:
    """One list. With `strict`, raises UnknownUserError for an unknown user."""
    answer = await engine.lists.top(query, partial(gone, receive))
    if strict and answer.source is ListSource.POPULAR:
        raise UnknownUserError(query.user or "")
    return answer


async def top_lists(
    engine: Engine, queries: Sequence[ListQuery], receive: Receive, *, strict: bool = False
) -> list[TopList]:
    """Several lists, all of one version. With `strict`, raises UnknownUserError for the first unknown user."""
    answers = await engine.lists.top_many(queries, partial(gone, receive))
    if strict:
        for position, answer in enumerate(answers):
            if answer.source is ListSource.POPULAR:
                raise UnknownUserError(answer.user or "", position)
    return answers


async def rate(
    engine: Engine, limits: Limits, user: str, item: str, rating: float, timestamp: int | None
) -> dict[str, Any]:
    """Store a rating; the members of the answer. Raises InvalidRequestError, or what the store raises."""
    limits.check_storable(user, "path", "user")
    limits.check_storable(item, "path", "item")
    check_scale(rating, engine.versions.scale, "body", "rating")
    given = Rating(item, rating, int(time.time()) if timestamp is None else timestamp)
    await engine.ratings.put(user, given)
    return {
        "user": user,
        "item": item,
        "rating": given.rating,
        "timestamp": given.timestamp,
        "known_item": engine.ratings.knows_item(item),
        "model_version": engine.versions.manifest.version,
    }


def refuse_unknown(user: str, item: str, source: Source, position: int | None = None) -> None:
    """Raise UnknownUserError or UnknownItemError where a prediction's source says that the id is unknown."""
    if source in (Source.ITEM_BIAS, Source.GLOBAL_MEAN):
        raise UnknownUserError(user, position)
    if source is Source.USER_BIAS:
        raise UnknownItemError(item, position)


async def gone(receive: Receive) -> None:
    """Ends when the client has gone."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
