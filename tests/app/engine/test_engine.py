from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from app.engine.engine import Bounds, Engine
from app.engine.errors import CancelledRequestError, DeadlineExceededError, OrderingUnavailableError, OverloadedError
from app.engine.events import Batch, Event, Listed, Loaded, Predicted
from app.engine.predictions import Predictor
from app.engine.recommender import LISTS_PER_BATCH, Recommender
from app.engine.threads import QUICK_PAIRS
from app.engine.types import SOURCES, ListQuery, Pair, Pairs, RankBy, Source, TopList
from models.checkpoint.writer import Draft
from models.devices import DevicePlacement
from models.registry.directory import load, publish

T = TypeVar("T")


@asynccontextmanager
async def opened(
    directory: Path, *, bounds: Bounds | None = None, events: list[Event] | None = None
) -> AsyncIterator[Engine]:
    told = [] if events is None else events
    engine = Engine(directory, DevicePlacement(torch.device("cpu")), 1, bounds or Bounds(), told.append)
    try:
        await engine.versions.start()
        yield engine
    finally:
        engine.close()


async def gone() -> None:
    """Whoever asked has gone already."""


async def forever() -> None:
    """Whoever asked stays."""
    await asyncio.Event().wait()


def never_asked() -> Coroutine[object, object, None]:
    raise AssertionError


def without_quick_answers(engine: Engine) -> None:
    """Let every answer wait for the engine's thread, as those of large requests do."""
    engine.predictions._quick_pairs = -1
    engine.lists._on_cpu = False


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """The engine's thread is busy until the block ends."""
    begun, released = threading.Event(), threading.Event()
    engine._worker.executor.submit(lambda: (begun.set(), released.wait(60)))
    begun.wait()
    try:
        yield
    finally:
        released.set()


async def until_with_thread(engine: Engine, batches: int) -> None:
    """Return when so many batches have been handed to the engine's thread, which is busy."""
    while engine._worker.executor._work_queue.qsize() != batches:
        await asyncio.sleep(0.001)


async def until_waiting(work: Predictor | Recommender, rows: int) -> None:
    """Return when so many rows wait for the engine's thread: their ids are looked up on another one before."""
    while work._batcher._queued_rows != rows:
        await asyncio.sleep(0.001)


def run(scenario: Coroutine[object, object, T]) -> T:
    return asyncio.run(asyncio.wait_for(scenario, 60))


def test_each_combination_of_unknown_ids_has_its_source_however_it_is_asked(checkpoints: Path) -> None:
    users, items = ["1", "1", "?", "?"], ["1", "?", "1", "?"]

    async def answers() -> tuple[list[Source], ...]:
        async with opened(checkpoints) as engine:
            now = await engine.predictions.pairs(Pairs(users, items))
            alone = [await engine.predictions.pair(Pair(*pair)) for pair in zip(users, items, strict=True)]
            without_quick_answers(engine)
            later = await engine.predictions.pairs(Pairs(users, items))
            waited = [await engine.predictions.pair(Pair(*pair)) for pair in zip(users, items, strict=True)]
            assert [one.rating for one in alone] == [one.rating for one in waited] == now.ratings_B.tolist()
            assert later.ratings_B.tolist() == now.ratings_B.tolist()
            named = [[SOURCES[source] for source in answer.sources_B] for answer in (now, later)]
            return (*named, [one.source for one in alone], [one.source for one in waited])

    for sources in run(answers()):
        assert sources == [Source.MODEL, Source.USER_BIAS, Source.ITEM_BIAS, Source.GLOBAL_MEAN]


def test_no_pairs_get_no_predictions(checkpoints: Path) -> None:
    async def answer() -> list[float]:
        async with opened(checkpoints) as engine:
            now = await engine.predictions.pairs(Pairs([], []))
            without_quick_answers(engine)
            later = await engine.predictions.pairs(Pairs([], []))
            return now.ratings_B.tolist() + later.ratings_B.tolist()

    assert run(answer()) == []


def test_requests_that_wait_together_are_answered_together_each_with_its_own(checkpoints: Path) -> None:
    async def ask() -> None:
        events: list[Event] = []
        async with opened(checkpoints, events=events) as engine:
            asked = [Pairs([str(k)] * k, [str(k + 1)] * k) for k in range(1, 30)]
            alone = [await engine.predictions.pairs(pairs) for pairs in asked]
            without_quick_answers(engine)
            with held(engine):
                first = asyncio.ensure_future(engine.predictions.pairs(asked[0]))
                await until_with_thread(engine, 1)
                tasks = [asyncio.ensure_future(engine.predictions.pairs(pairs)) for pairs in asked[1:]]
                await until_waiting(engine.predictions, sum(map(len, asked[1:])))
            together = await asyncio.gather(first, *tasks)
            assert [one.ratings_B.tolist() for one in together] == [one.ratings_B.tolist() for one in alone]
            batches = [event.rows for event in events if isinstance(event, Batch)]
            assert batches == [len(asked[0]), sum(map(len, asked[1:]))]

    run(ask())


def test_an_answer_under_way_keeps_to_the_model_it_began_with(tmp_path: Path, make_draft: Callable[..., Draft]) -> None:
    first = publish(tmp_path, make_draft(1)).version
    expected = load(tmp_path, first).model(torch.tensor([0]), torch.tensor([0])).clamp(1, 5).tolist()

    async def publish_then_ask() -> tuple[str, list[float]]:
        async with opened(tmp_path) as engine:
            without_quick_answers(engine)
            with held(engine):
                asked = asyncio.create_task(engine.predictions.pairs(Pairs(["1"], ["1"])))
                await until_with_thread(engine, 1)
                second = publish(tmp_path, make_draft(2)).version
                await engine.versions.start()
                assert (asked.done(), engine.versions.manifest.version) == (False, second)
            answer = await asked
            return answer.version, answer.ratings_B.tolist()

    assert run(publish_then_ask()) == (first, expected)


def test_old_and_new_models_do_not_share_a_batch(tmp_path: Path, make_draft: Callable[..., Draft]) -> None:
    publish(tmp_path, make_draft(1))

    async def ask() -> list[str]:
        async with opened(tmp_path) as engine:
            with held(engine):
                tasks = [asyncio.ensure_future(engine.lists.top_many([ListQuery(user="1")]))]
                await until_with_thread(engine, 1)
                tasks.append(asyncio.ensure_future(engine.lists.top_many([ListQuery(user="1")])))
                await until_waiting(engine.lists, 1)
                publish(tmp_path, make_draft(2))
                await engine.versions.start()
                tasks.append(asyncio.ensure_future(engine.lists.top_many([ListQuery(user="1")])))
                await until_waiting(engine.lists, 2)
            return [lists[0].version for lists in await asyncio.gather(*tasks)]

    with_thread, waiting, new = run(ask())
    assert with_thread == waiting != new


def test_a_list_is_the_same_at_once_in_a_batch_and_from_memory(checkpoints: Path) -> None:
    queries = [ListQuery(user=str(user), n=5) for user in range(1, 3 * LISTS_PER_BATCH)] + [ListQuery(user="?")]

    async def ask() -> list[list[TopList]]:
        async with opened(checkpoints) as engine:
            batched = await engine.lists.top_many(queries)
            once = [await engine.lists.top(query) for query in queries]
            again = [await engine.lists.top(query) for query in queries]
            assert all(first is second for first, second in zip(once, again, strict=True))
            return [batched, once]

    batched, once = run(ask())
    assert batched == once


def test_kept_lists_are_bounded_and_forgotten_with_their_model(
    tmp_path: Path, make_draft: Callable[..., Draft]
) -> None:
    publish(tmp_path, make_draft(1))

    async def ask() -> None:
        async with opened(tmp_path, bounds=Bounds(recent_lists=3)) as engine:
            lists = [await engine.lists.top(ListQuery(user=str(user))) for user in range(1, 6)]
            assert len(engine.lists._models.current.kept[engine.lists._recent]) == 3
            assert await engine.lists.top(ListQuery(user="5")) is lists[4]
            assert await engine.lists.top(ListQuery(user="1")) is not lists[0]
            publish(tmp_path, make_draft(2))
            await engine.versions.start()
            later = await engine.lists.top(ListQuery(user="5"))
            assert later.version == engine.versions.manifest.version != lists[4].version

    run(ask())


def test_filtered_and_long_lists_are_not_kept(checkpoints: Path) -> None:
    plain = ListQuery(user="1")

    async def ask() -> None:
        async with opened(checkpoints) as engine:
            for query in (
                plain._replace(n=51),
                plain._replace(exclude=("1",)),
                plain._replace(only=("1",)),
                plain._replace(genre=("Drama",)),
            ):
                await engine.lists.top(query)
            assert engine.lists._recent not in engine.lists._models.current.kept

    run(ask())


def test_an_order_that_the_model_lacks_is_refused_before_anything_waits(checkpoints: Path) -> None:
    async def ask() -> None:
        async with opened(checkpoints) as engine:
            query = ListQuery(user="1", rank_by=RankBy.LOWER_BOUND)
            with pytest.raises(OrderingUnavailableError, match="only by rating, relevance"):
                await engine.lists.top_many([query])
            with pytest.raises(OrderingUnavailableError):
                await engine.lists.top(query)

    run(ask())


def test_past_its_bound_the_queue_refuses(checkpoints: Path) -> None:
    async def ask() -> None:
        async with opened(checkpoints, bounds=Bounds(queued_pairs=5)) as engine:
            without_quick_answers(engine)
            asked = Pairs(["1"] * 3, ["1"] * 3)
            with held(engine):
                with_thread = asyncio.ensure_future(engine.predictions.pairs(asked))
                await until_with_thread(engine, 1)
                waiting = asyncio.ensure_future(engine.predictions.pairs(asked))
                await until_waiting(engine.predictions, 3)
                for _ in range(2):
                    with pytest.raises(OverloadedError):
                        await engine.predictions.pairs(asked)
            await asyncio.gather(with_thread, waiting)

    run(ask())


def test_what_is_quick_depends_on_its_size(checkpoints: Path) -> None:
    async def ask() -> None:
        async with opened(checkpoints) as engine:
            many = ["1"] * (QUICK_PAIRS + 1)
            quick = [
                engine.predictions.pair(Pair("1", "1"), never_asked),
                engine.predictions.pairs(Pairs(many[1:], many[1:]), never_asked),
                engine.lists.top(ListQuery(user="1"), never_asked),
                engine.lists.top(ListQuery(user="1", only=tuple(many[1:])), never_asked),
            ]
            for answer in quick:
                with pytest.raises(StopIteration):  # it never waited
                    answer.send(None)
            busy = threading.Event()
            engine._worker.executor.submit(busy.wait)
            slow = [
                engine.predictions.pairs(Pairs(many, many), gone),
                engine.lists.top(ListQuery(user="1", only=tuple(many)), gone),
                engine.lists.top_many([ListQuery(user="1")], gone),
            ]
            for answer in slow:
                with pytest.raises(CancelledRequestError):
                    await answer
            busy.set()

    run(ask())


def test_nothing_waits_on_for_a_request_whose_client_has_gone(checkpoints: Path) -> None:
    events: list[Event] = []

    async def ask() -> None:
        async with opened(checkpoints, events=events) as engine:
            without_quick_answers(engine)
            with held(engine):
                first = asyncio.create_task(engine.predictions.pair(Pair("1", "1")))
                await until_with_thread(engine, 1)
                with pytest.raises(CancelledRequestError):
                    await engine.predictions.pair(Pair("2", "2"), gone)
            await first

    run(ask())
    assert [event.rows for event in events if isinstance(event, Batch)] == [1]


def test_a_full_queue_refuses_before_it_asks_whether_the_client_is_there(checkpoints: Path) -> None:
    async def ask() -> None:
        async with opened(checkpoints, bounds=Bounds(queued_pairs=1, queued_lists=1)) as engine:
            without_quick_answers(engine)
            waiting = []
            with held(engine):
                for rows in range(2):  # the first is with the thread, the second waits
                    waiting.append(asyncio.create_task(engine.predictions.pair(Pair("1", "1"), forever)))
                    waiting.append(asyncio.create_task(engine.lists.top(ListQuery(user="1"), forever)))
                    await until_with_thread(engine, 2)  # the first pair and the first list
                    await until_waiting(engine.predictions, rows)
                    await until_waiting(engine.lists, rows)
                with pytest.raises(OverloadedError):
                    await engine.predictions.pair(Pair("1", "1"), never_asked)
                with pytest.raises(OverloadedError):
                    await engine.lists.top(ListQuery(user="1"), never_asked)
            await asyncio.gather(*waiting)

    run(ask())


def test_the_listener_is_told_of_answers_and_models(checkpoints: Path) -> None:
    events: list[Event] = []

    async def ask() -> None:
        async with opened(checkpoints, events=events) as engine:
            await engine.predictions.pairs(Pairs(["1", "?", "1"], ["1", "1", "2"]))
            await engine.predictions.pair(Pair("1", "?"))
            await engine.lists.top(ListQuery(user="?"))

    run(ask())
    loaded, *answered = events
    assert isinstance(loaded, Loaded)
    assert answered == [
        Predicted(Source.MODEL, 2),
        Predicted(Source.ITEM_BIAS, 1),
        Predicted(Source.USER_BIAS, 1),
        Listed("popular", 1),
    ]


def test_a_large_batch_is_what_its_parts_are(checkpoints: Path) -> None:
    rng = np.random.default_rng(0)
    users, items = (rng.integers(0, 500, 10_000).astype(str).tolist() for _ in "12")

    async def ask() -> None:
        async with opened(checkpoints) as engine:
            together = (await engine.predictions.pairs(Pairs(users, items))).ratings_B.tolist()
            alone = [await engine.predictions.pair(Pair(*pair)) for pair in list(zip(users, items, strict=True))[::500]]
            assert together[::500] == [one.rating for one in alone]

    run(ask())


def test_a_request_that_takes_several_batches_has_one_deadline(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[object] = []

    async def submit(*_: object) -> list[object]:
        if answered:
            await asyncio.Event().wait()
        answered.append("a list")
        return answered

    async def ask() -> None:
        async with opened(checkpoints, bounds=Bounds(seconds=0.01)) as engine:
            monkeypatch.setattr(engine.lists._batcher, "submit", submit)
            await engine.lists.top_many([ListQuery(user="1")] * (LISTS_PER_BATCH + 1))

    with pytest.raises(DeadlineExceededError, match=r"within 0\.01 seconds"):
        run(ask())
    assert answered
