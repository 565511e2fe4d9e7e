"""What a route does between decoding and encoding: ask the engine, and stop where the client has gone.

Routes and the front door share it. `receive` is that of ASGI, with the request's body already taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

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
from app.errors import ClientGoneError
from app.ratings.store import Put, Rating
from models.errors import UnknownItemError, UnknownUserError

T = TypeVar("T")


async def prediction(engine: Engine, pair: Pair, receive: Receive, *, strict: bool = False) -> Prediction:
    """The answer to one pair. With `strict`, raises UnknownUserError or UnknownItemError for an unknown id."""
    answer = engine.predict_pair_now(pair) if engine.quick_pairs(1) else None
    if answer is None:
        engine.check_room(pairs=1)
        answer = await unless_gone(receive, engine.predict_pair(pair))
    if strict:
        refuse_unknown(*pair, answer.source)
    return answer


async def predictions(engine: Engine, pairs: Pairs, receive: Receive, *, strict: bool = False) -> Predictions:
    """The answer to each pair. With `strict`, raises UnknownUserError or UnknownItemError for the first unknown id."""
    answer = engine.predict_now(pairs) if engine.quick_pairs(len(pairs)) else None
    if answer is None:
        engine.check_room(pairs=len(pairs))
        answer = await unless_gone(receive, engine.predict(pairs))
    if strict and (unknown_B := (answer.sources_B > 0) & (answer.sources_B < FOLDED)).any():
        first = int(np.flatnonzero(unknown_B)[0])
        source = SOURCES[answer.sources_B[first]]
        refuse_unknown(str(pairs.users[first]), str(pairs.items[first]), source, first)
    return answer


async def top_list(engine: Engine, query: ListQuery, receive: Receive, *, strict: bool = False) -> TopList:
    """One list. With `strict`, raises UnknownUserError for an unknown user."""
    answer = engine.top_now(query)
    if answer is None:
        engine.check_room(lists=1)
        (answer,) = await unless_gone(receive, engine.top([query]))
    if strict and answer.source is ListSource.POPULAR:
        raise UnknownUserError(query.user or "")
    return answer


async def top_lists(
    engine: Engine, queries: Sequence[ListQuery], receive: Receive, *, strict: bool = False
) -> list[TopList]:
    """Several lists, all of one version. With `strict`, raises UnknownUserError for the first unknown user."""
    engine.check_room(lists=len(queries))
    answers = await unless_gone(receive, engine.top(queries))
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
    check_scale(rating, engine.scale, "body", "rating")
    given = Rating(item, rating, int(time.time()) if timestamp is None else timestamp)
    await engine.store.change(Put(user, given))
    return {
        "user": user,
        "item": item,
        "rating": given.rating,
        "timestamp": given.timestamp,
        "known_item": engine.knows_item(item),
        "model_version": engine.manifest.version,
    }


def refuse_unknown(user: str, item: str, source: Source, position: int | None = None) -> None:
    """Raise UnknownUserError or UnknownItemError where a prediction's source says that the id is unknown."""
    if source in (Source.ITEM_BIAS, Source.GLOBAL_MEAN):
        raise UnknownUserError(user, position)
    if source is Source.USER_BIAS:
        raise UnknownItemError(item, position)


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for the work while the client does; raise ClientGoneError, with the work cancelled, once it has gone."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError("the client has gone before it was answered")
    finally:
        task.cancel()
        watch.cancel()


async def _gone(receive: Receive) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
