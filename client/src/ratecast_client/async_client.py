"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from ratecast_client import frames, operations
from ratecast_client.clients import Configured, as_method
from ratecast_client.exchange import Answer, Attempt, Call, Failure, Outcome, converse, http_request

P = ParamSpec("P")
T = TypeVar("T")


def _asks(operation: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method that makes the call."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(*args, **kwargs))

    as_method(method, operation)
    return method


def _asks_each(
    operation: Callable[P, Iterator[Call[tuple[T, ...]]]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    """A method that makes one call after the other, when it gets there."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        for call in operation(*args, **kwargs):
            for one in await self._run(call):
                yield one

    as_method(method, operation)
    return method


class AsyncClient(Configured[httpx.AsyncClient]):
    __doc__ = f"{Configured.__doc__}\n    Tasks of one event loop may share it.\n"

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
        steps = converse(call, self._policy)
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
            return Failure(httpx.ReadTimeout("the answer came too slowly"))
        except httpx.RequestError as error:
            return Failure(error)
        return Answer(response.status_code, response.headers, response.content)

    predict = _asks(operations.predict)
    predict_many = _asks(operations.predict_many)
    predict_for = _asks(operations.predict_for)
    predict_many_for = _asks(operations.predict_many_for)
    predict_frame = _asks(frames.predict_frame)
    top = _asks(operations.top)
    recommend = _asks(operations.recommend)
    recommend_for = _asks(operations.recommend_for)
    recommend_each = _asks_each(operations.recommend_each)
    recommend_frame = _asks(frames.recommend_frame)
    because = _asks(operations.because)
    similar = _asks(operations.similar)
    item = _asks(operations.item)
    find_items = _asks(operations.find_items)
    find_users = _asks(operations.find_users)
    genres = _asks(operations.genres)
    rate = _asks(operations.rate)
    unrate = _asks(operations.unrate)
    ratings = _asks(operations.ratings)
    rate_many = _asks(operations.rate_many)
    rate_frame = _asks(frames.rate_frame)
    export = _asks(operations.export)
    erase = _asks(operations.erase)
    models = _asks(operations.models)
    current_model = _asks(operations.current_model)
    history = _asks(operations.history)
    report = _asks(operations.report)
    activate = _asks(operations.activate)
    live = _asks(operations.live)
    ready = _asks(operations.ready)
    metrics = _asks(operations.metrics)
