"""The batcher, with a worker that the test holds: nothing here wins by waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from app.engine.batcher import Batcher
from app.engine.errors import DeadlineExceededError, OverloadedError
from app.engine.events import Batch, Event
from app.engine.threads import Worker

LONG = 60.0  # seconds that no test may reach


class Held:
    """A batcher of texts whose worker waits for `go` before it answers each batch; jobs called `bug` break it."""

    def __init__(self, *, max_rows: int = 10, max_queued: int = 100, seconds: float = LONG) -> None:
        self.batches: list[list[str]] = []
        self.events: list[Event] = []
        self.started, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.worker = Worker("texts", seconds)
        self.batcher: Batcher[str, str] = Batcher(
            "texts", self._run, self.worker, self.events.append, max_rows=max_rows, max_queued=max_queued
        )

    def _run(self, jobs: Sequence[str]) -> list[str]:
        self.batches.append(list(jobs))
        self.started.release()
        assert self.go.acquire(timeout=LONG)
        if "bug" in jobs:
            raise LookupError("a bug")
        return [job.upper() for job in jobs]

    async def submit(self, *jobs: str, rows: int = 1, key: object = None) -> list[asyncio.Task[str]]:
        """Submit jobs; they have been taken in when this returns."""
        tasks = [asyncio.ensure_future(self.batcher.submit(job, rows, key)) for job in jobs]
        await asyncio.sleep(0)
        return tasks

    async def hold(self) -> asyncio.Task[str]:
        """Make the worker busy."""
        (task,) = await self.submit("first")
        await asyncio.to_thread(self.started.acquire)
        return task

    def release(self, batches: int = 20) -> None:
        self.go.release(batches)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, LONG))


def test_a_lone_job_runs_at_once() -> None:
    async def scenario() -> None:
        held = Held()
        held.release()
        (task,) = await held.submit("a")
        assert (await task, held.batches) == ("A", [["a"]])

    run(scenario())


def test_what_arrives_while_the_worker_is_busy_is_the_next_batch() -> None:
    async def scenario() -> None:
        held = Held()
        first = await held.hold()
        tasks = await held.submit("a", "b", "c")
        held.release()
        assert await asyncio.gather(first, *tasks) == ["FIRST", "A", "B", "C"]
        assert held.batches == [["first"], ["a", "b", "c"]]

    run(scenario())


def test_a_batch_is_bounded_in_rows_and_a_larger_job_goes_alone() -> None:
    async def scenario() -> None:
        held = Held(max_rows=10)
        await held.hold()
        tasks = [
            *await held.submit("a", "b", rows=4),
            *await held.submit("big", rows=50),
            *await held.submit("c", rows=4),
        ]
        held.release()
        await asyncio.gather(*tasks)
        assert held.batches[1:] == [["a", "b"], ["big"], ["c"]]

    run(scenario())


def test_jobs_of_another_key_wait_for_their_own_batch() -> None:
    async def scenario() -> None:
        held = Held()
        await held.hold()
        tasks = [*await held.submit("old", key=1), *await held.submit("new", key=2), *await held.submit("old2", key=1)]
        held.release()
        await asyncio.gather(*tasks)
        assert held.batches[1:] == [["old", "old2"], ["new"]]

    run(scenario())


def test_past_the_bound_of_the_queue_a_job_is_refused_at_once_and_later_ones_are_taken() -> None:
    async def scenario() -> None:
        held = Held(max_queued=10)
        await held.hold()
        tasks = await held.submit("a", "b", rows=5)
        with pytest.raises(OverloadedError, match="10 rows are waiting for texts"):
            await held.batcher.submit("c", 1)
        held.release()
        await asyncio.gather(*tasks)
        (task,) = await held.submit("d")
        assert await task == "D"

    run(scenario())


def test_a_job_larger_than_the_queue_is_taken_where_nothing_waits() -> None:
    async def scenario() -> None:
        held = Held(max_queued=10)
        held.release()
        assert await held.batcher.submit("big", 1_000) == "BIG"

    run(scenario())


def test_a_cancelled_job_is_dropped_and_gives_its_place_up() -> None:
    async def scenario() -> None:
        held = Held(max_queued=10)
        first = await held.hold()
        gone, stays = await held.submit("gone", "stays", rows=5)
        gone.cancel()
        await asyncio.sleep(0)
        (late,) = await held.submit("late", rows=5)
        held.release()
        assert await asyncio.gather(first, stays, late) == ["FIRST", "STAYS", "LATE"]
        assert held.batches == [["first"], ["stays", "late"]]

    run(scenario())


def test_jobs_that_were_given_up_are_not_kept_until_the_worker_is_free() -> None:
    async def scenario() -> None:
        held = Held(max_queued=10)
        first = await held.hold()
        for _ in range(100):
            (gone,) = await held.submit("gone", rows=10)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        assert len(held.batcher._queue) == 0
        (big,) = await held.submit("big", rows=1_000)  # as nothing waits
        held.release()
        assert await asyncio.gather(first, big) == ["FIRST", "BIG"]

    run(scenario())


def test_a_job_that_is_given_up_while_the_next_batch_is_taken_is_left_out() -> None:
    async def scenario() -> None:
        held = Held()
        first = await held.hold()
        gone, other = await held.submit("gone", "other")
        gone.cancel()
        held.batcher._start_batch()  # before the task has noticed
        held.release()
        assert await asyncio.gather(first, other) == ["FIRST", "OTHER"]
        assert (held.batches, held.batcher._queued_rows) == ([["first"], ["other"]], 0)

    run(scenario())


def test_a_job_that_is_cancelled_while_it_runs_harms_nobody() -> None:
    async def scenario() -> None:
        held = Held()
        first = await held.hold()
        (other,) = await held.submit("other")
        first.cancel()
        held.release()
        assert await other == "OTHER"

    run(scenario())


def test_past_the_deadline_waiting_and_running_jobs_get_an_error_and_the_waiting_ones_never_run() -> None:
    async def scenario() -> None:
        held = Held(seconds=0.01)
        running = await held.hold()
        (waiting,) = await held.submit("waiting")
        for task in (running, waiting):
            with pytest.raises(DeadlineExceededError, match=r"within 0\.01 seconds"):
                await task
        held.worker.seconds = LONG
        (next_,) = await held.submit("next")
        held.release()
        assert await next_ == "NEXT"
        assert held.batches == [["first"], ["next"]]

    run(scenario())


def test_an_error_reaches_every_job_of_its_batch_and_no_other() -> None:
    async def scenario() -> None:
        held = Held()
        first = await held.hold()
        tasks = await held.submit("bug", "beside")
        (other,) = await held.submit("other", key=1)
        held.release()
        assert await first == "FIRST"
        for task in tasks:
            with pytest.raises(LookupError, match="a bug"):
                await task
        assert await other == "OTHER"

    run(scenario())


def test_listeners_are_told_of_each_batch() -> None:
    async def scenario() -> None:
        held = Held()
        first = await held.hold()
        tasks = await held.submit("a", "b", rows=3)
        held.release()
        await asyncio.gather(first, *tasks)
        one, two = held.events
        assert isinstance(one, Batch)
        assert isinstance(two, Batch)
        assert (one.kind, one.rows, len(one.queue_seconds), one.waiting_rows) == ("texts", 1, 1, 0)
        assert (two.kind, two.rows, len(two.queue_seconds), two.waiting_rows) == ("texts", 6, 2, 0)
        assert min(two.queue_seconds) > 0
        assert one.compute_seconds > 0

    run(scenario())
