"""Items and users of the current model: by their id, or searched for. Arrow scans the columns.

Shapes: I items, U users, W items in which every word was found, N results.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.engine.catalogue import fold_text
from app.engine.documents import CatalogueItem, FoundGenres, FoundItems, FoundUser, FoundUsers, Item
from app.engine.model_holder import ModelHolder
from app.engine.rating_history import RatingHistory
from app.engine.scorer import Rows
from app.engine.serving_model import ServingModel
from app.engine.stored_items import StoredItems
from app.engine.threads import QUICK_ROWS, Worker
from app.engine.types import ItemFilter
from models.errors import UnknownItemError
from models.ids import clean
from models.stored_items import StoredItem

MOST_WORDS = 8  # further ones are ignored: of a million titles a word takes up to 40 ms
NO_MATCH, WITHIN, WORD, START, WHOLE, ID = range(6)  # how well a title matches

T = TypeVar("T")


class CatalogueSearch:
    """Searches the current model's items, users and genres; a large table on a thread."""

    def __init__(self, models: ModelHolder, history: RatingHistory, items: StoredItems, worker: Worker) -> None:
        self._models = models
        self._items = items
        self._history = history
        self._worker = worker

    async def item(self, id_: str) -> Item:
        """What is known about an item. Raises UnknownItemError."""
        model, stored = self._models.current, self._items.known(id_)
        if stored is not None and stored.deleted:
            raise UnknownItemError(id_)
        known = id_ in model.items
        if known or stored is None:
            facts = model.catalogue.record(model.item_row(id_))
        else:
            facts = {"item": id_, "ratings": 0, "mean_rating": None} | stored.description()
        shown = stored or StoredItem(id_)
        times = {name: getattr(shown, name) for name in ("hidden", "available_from", "available_until")}
        return Item(**facts, **times, known_to_model=known, model_version=model.version)

    async def find_items(self, query: str, n: int, wanted: ItemFilter, offset: int = 0) -> FoundItems:
        """Items by their title, best match first. Raises DeadlineExceededError."""
        model = self._models.current
        return await self._search(model.items, lambda: find_items(model, query, n, wanted, offset))

    async def find_users(self, prefix: str, n: int) -> FoundUsers:
        """Users of the model and those who are new to it, by the beginning of their id, without deleted users.

        Raises DeadlineExceededError or StoreUnavailableError.
        """
        model = self._models.current
        prefix = clean(prefix)
        found = await self._search(model.users, lambda: find_users(model, prefix, n))
        allowed = {*await self._history.usable(model, [user.user for user in found])}
        newcomers = await self._history.newcomers(model, prefix, n)
        users = [user for user in found if user.user in allowed]
        users += [FoundUser(user=user, ratings=len(own.ratings)) for user, own in newcomers.items()]
        users.sort(key=lambda user: (user.user != prefix, -user.ratings))
        return FoundUsers(users=users[:n], model_version=model.version)

    async def genres(self) -> FoundGenres:
        """The genres of the items, the most frequent first. Raises DeadlineExceededError."""
        model = self._models.current
        found = await self._search(model.items, lambda: model.catalogue.genres)
        return FoundGenres(genres=found, model_version=model.version)

    async def _search(self, table: Sized, work: Callable[[], T]) -> T:
        return await self._worker.run(work, quick=len(table) <= QUICK_ROWS)


def find_items(model: ServingModel, query: str, n: int, wanted: ItemFilter, offset: int = 0) -> FoundItems:
    """The n items that match best, after `offset` better ones.

    First is the one of that id, then titles by how they begin, then the most rated. Every word of the query must occur
    in a title, in any case and with or without accents. Without a word it is the most rated items.
    """
    rows_W, quality_W = _matches(model, query)
    allowed = model.allowed(wanted)
    if allowed is not None:
        allowed_W = allowed.mask_I[rows_W]
        rows_W, quality_W = rows_W[allowed_W], quality_W[allowed_W]
    ratings_W = model.checkpoint.ratings_I[rows_W]
    found_N = rows_W[_best((quality_W << 32) + ratings_W, offset + n)[offset:]]
    items = [CatalogueItem(**record) for record in model.catalogue.records(found_N)]
    return FoundItems(items=items, model_version=model.version)


def find_users(model: ServingModel, prefix: str, n: int) -> list[FoundUser]:
    """The n users whose id begins with `prefix`: the one with that id, then those with the most ratings."""
    ids = model.users.ids
    rows_W = np.flatnonzero(pc.starts_with(ids, prefix)) if prefix else np.arange(len(ids))
    ratings_W = model.training_counts(rows_W)
    exact_W = rows_W == model.users.row(prefix)
    best_N = _best((exact_W.astype(np.int64) << 32) + ratings_W, n)
    return [
        FoundUser(user=id_, ratings=ratings)
        for id_, ratings in zip(model.users.lookup(rows_W[best_N]), ratings_W[best_N].tolist(), strict=True)
    ]


def _matches(model: ServingModel, query: str) -> tuple[Rows, Rows]:
    """Rows of the items that match, ascending, and how well each does."""
    titles = model.catalogue.folded_titles
    folded: str = fold_text(pa.chunked_array([pa.array([query.strip()])]))[0].as_py()
    rows_W = np.arange(len(titles))
    for word in sorted(dict.fromkeys(folded.split()[:MOST_WORDS]), key=len, reverse=True):
        hit_W = np.asarray(pc.fill_null(pc.match_substring(titles, word), False))
        titles, rows_W = titles.filter(pa.array(hit_W)), rows_W[hit_W]
    quality_W = np.full(len(rows_W), WITHIN, np.int64)
    if folded:
        for quality, mask in (
            (WORD, pc.match_substring(titles, f" {folded}")),
            (START, pc.starts_with(titles, folded)),
            (WHOLE, pc.equal(titles, folded)),
        ):
            quality_W[np.asarray(pc.fill_null(mask, False))] = quality
    return _with_id(model, query, rows_W, quality_W)


def _with_id(model: ServingModel, id_: str, rows_W: Rows, quality_W: Rows) -> tuple[Rows, Rows]:
    """Put the item with that id, if there is one, before all others."""
    row = model.items.row(clean(id_))
    if row == len(model.items):
        return rows_W, quality_W
    at = int(np.searchsorted(rows_W, row))
    if at == len(rows_W) or rows_W[at] != row:
        return np.insert(rows_W, at, row), np.insert(quality_W, at, ID)
    quality_W[at] = ID
    return rows_W, quality_W


def _best(keys_W: Rows, n: int) -> Rows:
    """Positions of the n highest keys, highest first, equal ones in their order."""
    if len(keys_W) > n:
        least = np.partition(keys_W, -n)[-n]
        positions = np.flatnonzero(keys_W >= least)
    else:
        positions = np.arange(len(keys_W))
    best: Rows = positions[np.argsort(-keys_W[positions], kind="stable")[:n]]
    return best
