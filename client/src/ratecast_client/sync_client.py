"""The client for blocking code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from ratecast_client import frames, operations
from ratecast_client.clients import Configured, as_method
from ratecast_client.exchange import Answer, Attempt, Call, Failure, Outcome, converse, http_request

P = ParamSpec("P")
T = TypeVar("T")


def _asks(operation: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method that makes the call."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(*args, **kwargs))

    as_method(method, operation)
    return method


def _asks_each(operation: Callable[P, Iterator[Call[tuple[T, ...]]]]) -> Callable[Concatenate[Client, P], Iterator[T]]:
    """A method that makes one call after the other, when it gets there."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        for call in operation(*args, **kwargs):
            yield from self._run(call)

    as_method(method, operation)
    return method


class Client(Configured[httpx.Client]):
    __doc__ = f"{Configured.__doc__}\n    Threads may share it.\n"

    def _open(self, options: dict[str, Any]) -> httpx.Client:
        return httpx.Client(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _run(self, call: Call[T]) -> T:
        steps = converse(call, self._policy)
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(self._try(attempt))
        except StopIteration as end:
            result: T = end.value
            return result

    def _try(self, attempt: Attempt) -> Outcome:
        clock = self._policy.clock
        if attempt.pause:
            clock.sleep(attempt.pause)
        until = clock.now() + attempt.seconds
        try:
            with self._http.stream(**http_request(attempt, clock)) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if clock.now() > until:
                        raise httpx.ReadTimeout("the answer came too slowly")
                return Answer(response.status_code, response.headers, b"".join(parts))
        except httpx.RequestError as error:
            return Failure(error)

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
