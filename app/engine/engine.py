"""The facade of the engine: ids in, answers out. It knows neither HTTP nor settings.

All work on the model runs on one thread of its own, so the event loop stays free. Shapes: B pairs, N list length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from app.engine.answers import ItemDetails, ListSource, Predictions, RankedItem, Source, TopList
from app.engine.store import Served, Store
from models.errors import UnknownItemError, UnknownUserError
from models.manifest import Manifest

T = TypeVar("T")

# Indexed by (is the user unknown) · 2 + (is the item unknown).
SOURCES = (Source.MODEL, Source.USER_BIAS, Source.ITEM_BIAS, Source.GLOBAL_MEAN)


class Engine:
    """Answers from the current checkpoint of a directory.

    Args:
        directory: of the published checkpoints.
        device: where the model lives.
        threads: CPU threads of the model's arithmetic.
    """

    def __init__(self, directory: Path, device: torch.device, threads: int) -> None:
        self._store = Store(directory, device)
        self._executor = ThreadPoolExecutor(1, "engine", torch.set_num_threads, (threads,))

    @property
    def device(self) -> torch.device:
        return self._store.device

    @property
    def manifest(self) -> Manifest:
        """Facts about the model being served. Raises NotReadyError before there is one."""
        return self._store.current.checkpoint.manifest

    async def load(self) -> None:
        """Load the current checkpoint. Raises CheckpointError."""
        await self._run(self._store.load)

    async def predict(self, users: Sequence[str], items: Sequence[str], *, strict: bool = False) -> Predictions:
        """Rating of each pair, clipped to the scale; both columns are of one length.

        With `strict`, raises UnknownUserError or UnknownItemError for the first unknown id, with its position.
        """
        served = self._store.current
        answer = await self._run(lambda: predict(served, users, items))
        if strict:
            for position, source in enumerate(answer.sources):
                refuse_unknown(users[position], items[position], source, position)
        return answer

    async def predict_pair(self, user: str, item: str, *, strict: bool = False) -> Predictions:
        """Rating of one pair: columns of length one. With `strict`, raises UnknownUserError or UnknownItemError."""
        answer = await self.predict([user], [item])
        if strict:
            refuse_unknown(user, item, answer.sources[0])
        return answer

    async def top(self, user: str, n: int, *, exclude_seen: bool = True, strict: bool = False) -> TopList:
        """The n items of highest r̂ for a user; the most rated items for an unknown one (UnknownUserError if strict)."""
        served = self._store.current
        return await self._run(lambda: top(served, user, n, exclude_seen=exclude_seen, strict=strict))

    async def item(self, id_: str) -> ItemDetails:
        """What is known about an item. Raises UnknownItemError."""
        served = self._store.current
        return await self._run(lambda: describe(served, id_))

    def close(self) -> None:
        """Finish what is under way and end the thread."""
        self._executor.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def predict(served: Served, users: Sequence[str], items: Sequence[str]) -> Predictions:
    """As `Engine.predict`, from one snapshot."""
    users_B, items_B = served.checkpoint.users.rows(users), served.checkpoint.items.rows(items)
    ratings_B = served.scorer.predict(torch.from_numpy(users_B), torch.from_numpy(items_B))
    unknown_users_B = users_B == len(served.checkpoint.users)
    unknown_items_B = items_B == len(served.checkpoint.items)
    sources_B = unknown_users_B * 2 + unknown_items_B
    return Predictions(ratings_B.tolist(), [SOURCES[source] for source in sources_B.tolist()], served.version)


def top(served: Served, user: str, n: int, *, exclude_seen: bool, strict: bool) -> TopList:
    """As `Engine.top`, from one snapshot."""
    row = served.checkpoint.users.row(user)
    if row < len(served.checkpoint.users):
        excluded_M = served.seen(row) if exclude_seen else torch.empty(0, dtype=torch.int64)
        items_N, ratings_N = served.scorer.top(row, excluded_M, n)
        return TopList(ListSource.MODEL, _ranked(served, items_N, ratings_N), served.version)
    if strict:
        raise UnknownUserError(user)
    items_N = torch.from_numpy(served.popular_I[:n])
    ratings_N = served.scorer.predict(torch.full_like(items_N, row), items_N)
    return TopList(ListSource.POPULAR, _ranked(served, items_N, ratings_N), served.version)


def describe(served: Served, id_: str) -> ItemDetails:
    """As `Engine.item`, from one snapshot."""
    row = served.checkpoint.items.row(id_)
    if row == len(served.checkpoint.items):
        raise UnknownItemError(id_)
    (record,) = served.checkpoint.catalogue.slice(row, 1).to_pylist()
    return ItemDetails(**record, version=served.version)


def refuse_unknown(user: str, item: str, source: Source, position: int | None = None) -> None:
    """Raise UnknownUserError or UnknownItemError where a prediction's source says that the id is unknown."""
    if source in (Source.ITEM_BIAS, Source.GLOBAL_MEAN):
        raise UnknownUserError(user, position)
    if source is Source.USER_BIAS:
        raise UnknownItemError(item, position)


def _ranked(served: Served, items_N: Tensor, ratings_N: Tensor) -> list[RankedItem]:
    records = served.checkpoint.catalogue.select(["id", "title", "year"]).take(items_N.cpu().numpy()).to_pylist()
    return [
        RankedItem(record["id"], rating, record["title"], record["year"])
        for record, rating in zip(records, ratings_N.tolist(), strict=True)
    ]
