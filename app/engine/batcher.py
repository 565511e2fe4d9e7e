"""A micro-batcher without a timer: a lone job runs at once; what arrives while the worker is busy is the next batch.

It knows neither what a job asks nor what the worker does with it. Event-loop side only: call it from one loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.engine.errors import DeadlineExceededError, OverloadedError
from app.engine.events import Batch, Listener

Job = TypeVar("Job")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Job, Answer]):
    job: Job
    key: Hashable
    rows: int
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.perf_counter)


class Batcher(Generic[Job, Answer]):
    """Collects jobs and computes them in batches, one batch at a time.

    Args:
        kind: of the work, for messages and listeners.
        run: answers the jobs of a batch, in order, on a thread of `executor`.
        executor: runs the batches.
        max_rows: bound of a batch, in rows; a larger job is a batch of its own.
        max_queued: bound of what waits, in rows. A job is refused only where something else is waiting.
        seconds: how long a job may take, waiting included.
        listeners: told of each batch.
    """

    def __init__(
        self,
        kind: str,
        run: Callable[[Sequence[Job]], Sequence[Answer]],
        executor: Executor,
        *,
        max_rows: int,
        max_queued: int,
        seconds: float,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._kind = kind
        self._run = run
        self._executor = executor
        self._max_rows = max_rows
        self._max_queued = max_queued
        self._seconds = seconds
        self._listeners = listeners
        self._queue: dict[
            _Waiting[Job, Answer], None
        ] = {}  # oldest first; a job that is given up is removed wherever it stands
        self._queued_rows = 0
        self._busy = False

    def check_room(self, rows: int) -> None:
        """Raise OverloadedError where a job of so many rows would be refused now."""
        if self._queued_rows and self._queued_rows + rows > self._max_queued:
            raise OverloadedError(f"{self._queued_rows} rows are waiting for {self._kind} already")

    async def submit(self, job: Job, rows: int, key: Hashable = None) -> Answer:
        """The answer to `job`. Only jobs of equal `key` share a batch. Cancelling removes a job that still waits.

        Raises:
            OverloadedError: too much is waiting already.
            DeadlineExceededError: the answer did not come in time; a job that still waits is removed.
        """
        self.check_room(rows)
        waiting = _Waiting(job, key, rows, asyncio.get_running_loop().create_future())
        self._queue[waiting] = None
        self._queued_rows += rows
        if not self._busy:
            self._start_batch()
        try:
            async with asyncio.timeout(self._seconds):
                answer: Answer = await waiting.answer
                return answer
        except TimeoutError:
            raise DeadlineExceededError.after(self._seconds) from None
        finally:
            self._leave(waiting)

    def _start_batch(self) -> None:
        """Start a batch of the oldest job and those that can share it; jobs that nobody waits for are left out."""
        batch = self._take_batch()
        if not batch:
            return
        self._busy = True
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        work = self._executor.submit(self._run, [waiting.job for waiting in batch])
        work.add_done_callback(lambda done: _call_in(loop, self._finish, batch, done, began))

    def _take_batch(self) -> list[_Waiting[Job, Answer]]:
        batch: list[_Waiting[Job, Answer]] = []
        rows = 0
        for waiting in self._queue:
            if waiting.answer.done():
                continue
            if not batch or (waiting.key == batch[0].key and rows + waiting.rows <= self._max_rows):
                batch.append(waiting)
                rows += waiting.rows
        for waiting in batch:
            self._leave(waiting)
        return batch

    def _leave(self, waiting: _Waiting[Job, Answer]) -> None:
        """Remove a job from the queue, if it is still there."""
        if waiting in self._queue:
            del self._queue[waiting]
            self._queued_rows -= waiting.rows

    def _finish(self, batch: list[_Waiting[Job, Answer]], done: Future[Sequence[Answer]], began: float) -> None:
        self._busy = False
        self._start_batch()  # first: the device should not wait until answers are handed out
        error = done.exception()
        answers: Sequence[Any] = [None] * len(batch) if error else done.result()
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if error:
                waiting.answer.set_exception(error)
            else:
                waiting.answer.set_result(answer)
        self._tell(batch, began)

    def _tell(self, batch: list[_Waiting[Job, Answer]], began: float) -> None:
        record = Batch(
            kind=self._kind,
            rows=sum(waiting.rows for waiting in batch),
            queue_seconds=[began - waiting.since for waiting in batch],
            compute_seconds=time.perf_counter() - began,
            waiting_rows=self._queued_rows,
        )
        for listener in self._listeners:
            listener(record)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Call a function on the loop's thread, unless the loop has been closed: then nobody waits for the answers."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)
