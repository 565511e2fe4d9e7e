"""A micro-batcher without a timer: a lone job runs at once; what arrives while the worker is busy is the next batch.

It knows neither what a job asks nor what the worker does with it. Event-loop side only: call it from one loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.engine.errors import OverloadedError
from app.engine.events import Batch, Listener
from app.engine.threads import Worker, within

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
        kind: name of the work, for messages and events.
        run: answers the jobs of a batch, in order, on the thread of `worker`.
        worker: its time limit includes the time that a job waits.
        tell: called with each batch.
        max_rows: bound of a batch, in rows; a larger job is a batch of its own.
        max_queued: bound of what waits, in rows. A job is refused only where something else is waiting.
    """

    def __init__(
        self,
        kind: str,
        run: Callable[[Sequence[Job]], Sequence[Answer]],
        worker: Worker,
        tell: Listener,
        *,
        max_rows: int,
        max_queued: int,
    ) -> None:
        self._kind, self._run, self._worker, self._tell = kind, run, worker, tell
        self._max_rows, self._max_queued = max_rows, max_queued
        # Oldest first; a job that is given up is removed wherever it stands.
        self._queue: dict[_Waiting[Job, Answer], None] = {}
        self._queued_rows = 0
        self._busy = False

    def check_room(self, rows: int) -> None:
        """Raise OverloadedError if a job of so many rows would be refused now."""
        if self._queued_rows and self._queued_rows + rows > self._max_queued:
            raise OverloadedError(f"{self._queued_rows} rows are waiting for {self._kind} already")

    async def submit(self, job: Job, rows: int, key: Hashable = None) -> Answer:
        """The answer to `job`. Only jobs of equal `key` share a batch. Cancelling removes a job that still waits.

        Raises OverloadedError if too much is waiting already, and DeadlineExceededError if the answer did not
        come in time: a job that still waits is removed.
        """
        self.check_room(rows)
        waiting = _Waiting(job, key, rows, asyncio.get_running_loop().create_future())
        self._queue[waiting] = None
        self._queued_rows += rows
        if not self._busy:
            self._start_batch()
        try:
            answer: Answer = await within(self._worker.seconds, waiting.answer)
            return answer
        finally:
            self._leave(waiting)

    def _start_batch(self) -> None:
        """Start a batch of the oldest job and those that can share it; cancelled jobs are left out."""
        batch = self._take_batch()
        if not batch:
            return
        self._busy = True
        loop = asyncio.get_running_loop()
        began = time.perf_counter()

        def done(work: Future[Sequence[Answer]]) -> None:
            if not loop.is_closed():  # else no job waits for its answer
                loop.call_soon_threadsafe(self._finish, batch, work, began)

        self._worker.executor.submit(self._run, [waiting.job for waiting in batch]).add_done_callback(done)

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

    def _finish(self, batch: list[_Waiting[Job, Answer]], work: Future[Sequence[Answer]], began: float) -> None:
        self._busy = False
        self._start_batch()  # first: the device should not wait until answers are handed out
        error = work.exception()
        answers: Sequence[Any] = [None] * len(batch) if error else work.result()
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if error:
                waiting.answer.set_exception(error)
            else:
                waiting.answer.set_result(answer)
        queued = [began - waiting.since for waiting in batch]
        rows, seconds = sum(waiting.rows for waiting in batch), time.perf_counter() - began
        self._tell(Batch(self._kind, rows, queued, seconds, self._queued_rows))
