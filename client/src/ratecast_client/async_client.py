"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from ratecast_client import frames, operations
from ratecast_client.base_client import BaseClient, as_method
from ratecast_client.exchange import Answer, Attempt, Call, Failure, Outcome, http_request, run_call

P = ParamSpec("P")
T = TypeVar("T")


def _method(operation: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method that makes the call of an operation and returns its answer."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(*args, **kwargs))

    as_method(method, operation)
    return method


def _list_method(
    operation: Callable[P, Iterator[Call[tuple[T, ...]]]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    """A method that makes the calls of an operation one by one, as its iterator is read."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        for call in operation(*args, **kwargs):
            for one in await self._run(call):
                yield one

    as_method(method, operation)
    return method


class AsyncClient(BaseClient[httpx.AsyncClient]):
    __doc__ = f"{BaseClient.__doc__}\n    Tasks of one event loop may share a client.\n"

    def _open(self, options: dict[str, Any]) -> httpx.AsyncClient:
        return httpx.AsyncClient(**options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _run(self, call: Call[T]) -> T:
        steps = run_call(call, self._policy)
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(await self._try(attempt))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _try(self, attempt: Attempt) -> Outcome:
        if attempt.pause:
            await self._policy.clock.sleep_async(attempt.pause)
        try:
            async with asyncio.timeout(attempt.seconds):
                response = await self._http.request(**http_request(attempt, self._policy.clock))
        except TimeoutError:
            return Failure(httpx.ReadTimeout("the answer did not arrive in time"))
        except httpx.RequestError as error:
            return Failure(error)
        return Answer(response.status_code, response.headers, response.content)

    predict = _method(operations.predict)
    predict_many = _method(operations.predict_many)
    predict_from_ratings = _method(operations.predict_from_ratings)
    predict_many_from_ratings = _method(operations.predict_many_from_ratings)
    predict_frame = _method(frames.predict_frame)
    top = _method(operations.top)
    recommend = _method(operations.recommend)
    recommend_from_ratings = _method(operations.recommend_from_ratings)
    recommend_each = _list_method(operations.recommend_each)
    recommend_frame = _method(frames.recommend_frame)
    because = _method(operations.because)
    similar_items = _method(operations.similar_items)
    item_ratings = _method(operations.item_ratings)
    item_users = _method(operations.item_users)
    item = _method(operations.item)
    put_item = _method(operations.put_item)
    patch_item = _method(operations.patch_item)
    delete_item = _method(operations.delete_item)
    put_items = _method(operations.put_items)
    find_items = _method(operations.find_items)
    find_users = _method(operations.find_users)
    genres = _method(operations.genres)
    rate = _method(operations.rate)
    delete_rating = _method(operations.delete_rating)
    ratings = _method(operations.ratings)
    rate_many = _method(operations.rate_many)
    rate_frame = _method(frames.rate_frame)
    export_user = _method(operations.export_user)
    delete_user = _method(operations.delete_user)
    models = _method(operations.models)
    current_model = _method(operations.current_model)
    history = _method(operations.history)
    report = _method(operations.report)
    compare = _method(operations.compare)
    last_fit = _method(operations.last_fit)
    settings = _method(operations.settings)
    quality = _method(operations.quality)
    ratings_summary = _method(operations.ratings_summary)
    split = _method(operations.split)
    end_split = _method(operations.end_split)
    activate = _method(operations.activate)
    rollback = _method(operations.rollback)
    live = _method(operations.live)
    ready = _method(operations.ready)
    metrics = _method(operations.metrics)
