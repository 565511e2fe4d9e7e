"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from ratecast_client import frames, operations
from ratecast_client.base_client import BaseClient, as_method
from ratecast_client.exchange import Answer, Attempt, Call, Failure, Outcome, http_request, run_call

P = ParamSpec("P")
T = TypeVar("T")


def _method(operation: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method that makes the call of an operation and returns its answer."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(*args, **kwargs))

    as_method(method, operation)
    return method


def _list_method(
    operation: Callable[P, Iterator[Call[tuple[T, ...]]]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    """A method that makes the calls of an operation one by one, as its iterator is read."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        for call in operation(*args, **kwargs):
            yield from self._run(call)

    as_method(method, operation)
    return method


class Client(BaseClient[httpx.Client]):
    __doc__ = f"{BaseClient.__doc__}\n    Threads may share a client.\n"

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
        steps = run_call(call, self._policy)
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
        until = clock.monotonic() + attempt.seconds
        try:
            with self._http.stream(**http_request(attempt, clock)) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if clock.monotonic() > until:
                        raise httpx.ReadTimeout("the answer did not arrive in time")
                return Answer(response.status_code, response.headers, b"".join(parts))
        except httpx.RequestError as error:
            return Failure(error)

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
