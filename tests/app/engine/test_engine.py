from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from app.engine.answers import Source
from app.engine.engine import Engine
from models import checkpoint
from models.errors import UnknownItemError, UnknownUserError
from models.publication import Draft, publish


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Engine]:
    engine = Engine(directory, torch.device("cpu"), threads=1)
    try:
        await engine.load()
        yield engine
    finally:
        engine.close()


def test_each_combination_of_unknown_ids_has_its_source(checkpoints: Path) -> None:
    async def answer() -> list[Source]:
        async with opened(checkpoints) as engine:
            return (await engine.predict(["1", "1", "?", "?"], ["1", "?", "1", "?"])).sources

    assert asyncio.run(answer()) == [Source.MODEL, Source.USER_BIAS, Source.ITEM_BIAS, Source.GLOBAL_MEAN]


def test_no_pairs_get_no_predictions(checkpoints: Path) -> None:
    async def answer() -> list[float]:
        async with opened(checkpoints) as engine:
            return (await engine.predict([], [])).ratings

    assert asyncio.run(answer()) == []


@pytest.mark.parametrize(
    ("users", "items", "error", "position"),
    [
        (["1", "?", "!"], ["1", "1", "1"], UnknownUserError, 1),
        (["1", "1", "?"], ["1", "?", "1"], UnknownItemError, 1),
        (["?"], ["?"], UnknownUserError, 0),
    ],
)
def test_strict_names_the_first_unknown_id(
    checkpoints: Path, users: list[str], items: list[str], error: type[UnknownUserError], position: int
) -> None:
    async def ask() -> None:
        async with opened(checkpoints) as engine:
            await engine.predict(users, items, strict=True)

    with pytest.raises(error, match=f"at position {position}") as caught:
        asyncio.run(ask())
    assert (caught.value.id, caught.value.position) == ("?", position)


def test_an_answer_under_way_keeps_to_the_model_it_began_with(tmp_path: Path, make_draft: Callable[..., Draft]) -> None:
    first = publish(tmp_path, make_draft(1)).version
    expected = checkpoint.load(tmp_path, first).model(torch.tensor([0]), torch.tensor([0])).clamp(1, 5).tolist()

    async def publish_then_ask() -> tuple[str, list[float]]:
        async with opened(tmp_path) as engine:
            busy = threading.Event()
            waiting = asyncio.get_running_loop().run_in_executor(engine._executor, busy.wait)
            asked = asyncio.create_task(engine.predict(["1"], ["1"]))
            await asyncio.sleep(0)  # it has begun: the loop is free although the engine is not
            second = publish(tmp_path, make_draft(2)).version
            engine._store.load()
            assert (asked.done(), engine.manifest.version) == (False, second)
            busy.set()
            await waiting
            answer = await asked
            return answer.version, answer.ratings

    assert asyncio.run(publish_then_ask()) == (first, expected)
