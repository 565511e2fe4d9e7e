"""One checkpoint, ready to answer from: its scorer, its orderings, its catalogue and its fold-in.

Shapes: U users, I items, F factors, B pairs, T training ratings of all users, N of one user.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from copy import copy
from functools import cached_property, lru_cache, partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from app.engine.catalogue import Catalogue
from app.engine.errors import OrderingUnavailableError
from app.engine.intervals import Intervals
from app.engine.known_items import KnownItems
from app.engine.scorer import Rows, Scorer
from app.engine.types import ItemFilter, RankBy
from app.ratings.revisions import Revisions
from models.biases import Biases
from models.checkpoint.extension import extended
from models.checkpoint.reader import Checkpoint
from models.checkpoint.vocabulary import Vocabulary
from models.errors import UnknownItemError
from models.fold_in import FoldIn
from models.new_items import NewItemRows
from models.orderings import by_popularity, default_order, orderings
from models.registry.hold import Hold
from models.sharding import Sharded, spread
from models.stored_items import DESCRIBED, LISTS, StoredItem, next_change

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

FILTER_BYTES = 64 << 20  # of the filters that are kept; one takes two bytes an item
MOST_FILTERS = 64
FEW_OTHERS = 1 / 32  # of the items
POPULARITY = "popularity"
ALL_ITEMS = ItemFilter()


class AllowedItems(NamedTuple):
    """The items that a filter lets through."""

    mask_I: npt.NDArray[np.bool_]  # in the host's memory
    parts: tuple[Tensor, ...]  # the same, cut for the devices
    others_M: npt.NDArray[np.int64] | None  # the rows of all others where they are few: quicker than a mask


class ServingModel:
    """A model that answers are computed from. It does not change.

    Args:
        checkpoint: the model and what is known about its users and items.
        hold: keeps the version from being pruned; None if nothing prunes it.
        revisions: of users' ratings; None if the service has no ratings store.
        shards: devices over which the items are spread; none if they stay on the checkpoint's device.

    Attributes:
        checkpoint: as it was published, and with new items in a view that has some.
        fitted_items: how many items were fitted; the rows of others come after theirs.
        without_new_items: the model that was published; `published` is that of a view with new items, else None.
        users, items: the ids of the rows.
        orderings: the orders of lists that the model supports, by name.
        popularity: orders the list of an unknown user: by the number of training ratings.
        scorer, intervals: the rating of a pair, and the interval that it lies in.
        cells: multiplications that scoring the whole catalogue for one user takes, in the order that takes most.
        unknown_variance: what not knowing the user at all adds to the variance of a rating; None if it is unknown.
        known_items, shown_at, outdated_at: of a store, which it shows; None before any. As of which time it shows
            them, and when time changes that.
        fitted_revisions: of the ratings store that it was fitted on, by the store's id; none if it was on other data.
        kept: what is kept of its answers, by who keeps it (`Recent`).
        revision_slots_U: where each user stands in the table of revisions; empty if there is none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        hold: Hold | None = None,
        revisions: Revisions | None = None,
        shards: Sequence[torch.device] = (),
    ) -> None:
        ratings = checkpoint.seen
        self.version = checkpoint.version
        self.users, self.fitted_items = checkpoint.users, len(checkpoint.items)
        self.unknown_variance = None
        if checkpoint.model.user_variance is not None:
            self.unknown_variance = float(checkpoint.model.user_variance[-1])
        self.revision_slots_U = _slots(checkpoint.users, revisions)
        snapshot = checkpoint.manifest.data.snapshot
        self.fitted_revisions: dict[str | None, int] = {} if snapshot is None else {snapshot.store: snapshot.revision}
        self._hold, self._shards = hold, shards
        self.published: ServingModel | None = None
        self._offsets = ratings.offsets.cpu().numpy()
        self._items_T, self._ratings_T = ratings.items_N.cpu().numpy(), ratings.ratings_N.cpu().numpy()
        self.take_items(checkpoint)

    def take_items(self, checkpoint: Checkpoint) -> None:
        """Answer from the items of a checkpoint. Nothing is shown yet of what a store says of them."""
        model, shape = checkpoint.model, checkpoint.manifest.model
        counts_I = torch.tensor(checkpoint.ratings_I).to(model.device)
        self.checkpoint, self.items = checkpoint, checkpoint.items
        self.catalogue = Catalogue(checkpoint.catalogue)
        named = {**orderings(model, checkpoint.relevance), POPULARITY: by_popularity(counts_I)}
        self.orderings = spread(named, self._shards)
        self.popularity = self.orderings.pop(POPULARITY)
        self.default_order = RankBy(default_order(self.orderings))
        self.cells = max(ordering.cells for ordering in self.orderings.values())
        self.scorer = Scorer(self.orderings[RankBy.RATING], (shape.rating_min, shape.rating_max))
        self.intervals = Intervals(self.scorer, model)
        head, counts = checkpoint.relevance, checkpoint.ratings_I
        self.fold_in = FoldIn.of(model, checkpoint.prior, head, counts, self.fitted_items)
        self.known_items: KnownItems | None = None
        self.shown_at, self.outdated_at = -math.inf, math.inf
        self.kept: dict[Recent[Any, Any], dict[Any, Any]] = {}
        self.keep_filters()

    @property
    def without_new_items(self) -> ServingModel:
        return self.published or self

    def with_new_items(self, ids: Sequence[str], rows: NewItemRows) -> ServingModel:
        """The published model with some items more, distinct ids that it does not have, and their rows."""
        view = copy(self.without_new_items)
        view.published = self.without_new_items
        view.take_items(extended(view.published.checkpoint, ids, rows))
        return view

    def item_row(self, item: str) -> int:
        """The row of an item. Raises UnknownItemError."""
        row = self.items.row(item)
        if row == len(self.items):
            raise UnknownItemError(item)
        return row

    def count_unknown(self, items: Sequence[str]) -> int:
        """How many of some items the model was not fitted to. On any thread."""
        return int(np.count_nonzero(self.items.rows(items) >= self.fitted_items))

    def order(self, requested: RankBy | None) -> RankBy:
        """The order of a list. Raises OrderingUnavailableError for an order that this model does not support."""
        if requested is None:
            return self.default_order
        if requested not in self.orderings:
            raise OrderingUnavailableError(
                f"this model cannot order by {requested}, only by {', '.join(sorted(self.orderings))}"
            )
        return requested

    def allowed(self, wanted: ItemFilter) -> AllowedItems | None:
        """The items that a filter lets through; None for all."""
        return None if wanted == ALL_ITEMS and self.catalogue.shown_I is None else self._allowed(wanted)

    def published_item(self, id_: str) -> StoredItem | None:
        """What the checkpoint says of an item, whatever a store says; None for an item that was not published."""
        if (row := self.items.row(id_)) >= self.fitted_items:
            return None
        (record,) = self.checkpoint.catalogue.select(DESCRIBED).slice(row, 1).to_pylist()
        names = {name: None if record[name] is None else tuple(record[name]) for name in LISTS}
        title = record["title"] and record["title"].replace("\0", "")  # which PostgreSQL cannot store
        return StoredItem(id_)._replace(**record | names | {"title": title})

    def with_revisions(self, revisions: Revisions | None) -> ServingModel:
        """The same model, for a service with this ratings store, or with none."""
        view = copy(self)
        view.revision_slots_U = _slots(view.users, revisions)
        return view

    def with_items(self, known: KnownItems, now: float, changed: pa.Table | None = None) -> ServingModel:
        """The same model with what a store says of items, and whether to show them now, instead of what it knows.

        With `changed`, what the store said of others stays; else all is shown as `known`. What begins or ends by the
        time does so at `outdated_at`, in another view: from then on, all that time changes is in `changed`.
        """
        view = copy(self)
        view.known_items, view.shown_at = known, now
        view.kept = {keeper: values for keeper, values in self.kept.items() if not keeper.shows_items}
        if changed is None:
            catalogue, earlier, stored = Catalogue(self.checkpoint.catalogue), math.inf, known.all()
        else:
            catalogue, earlier, stored = self.catalogue, self.outdated_at, changed
        view.outdated_at = min(next_change(stored, now), earlier if earlier > now else math.inf)
        rows_N = self.items.rows(stored["id"])
        known_N = rows_N < len(self.items)
        view.catalogue = catalogue.with_items(rows_N[known_N], stored.filter(pa.array(known_N)), now)
        view.keep_filters()
        return view

    @cached_property
    def biases(self) -> Biases:
        """What the biases alone predict."""
        checkpoint = self.checkpoint
        means_I = checkpoint.catalogue["mean_rating"].to_numpy()
        return Biases(checkpoint.manifest.data.rating_mean, checkpoint.ratings_I, means_I)

    def keep_filters(self) -> None:
        """Forget which items filters let through, and keep those that are asked for from now on."""
        kept = min(MOST_FILTERS, FILTER_BYTES // (2 * len(self.items) + 1))
        self._allowed = lru_cache(kept)(partial(_allowed, self.catalogue, self.popularity))

    def training_ratings(self, user: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Item rows of a user's training ratings, and the ratings, both (N,)."""
        own = slice(self._offsets[user], self._offsets[user + 1])
        return self._items_T[own], self._ratings_T[own]

    def training_ratings_of(self, item: int) -> tuple[Rows, npt.NDArray[np.float32]]:
        """User rows of an item's training ratings, ascending, and the ratings, both (N,). It looks at all ratings."""
        positions_N = np.flatnonzero(self._items_T == item)
        users_N: Rows = np.searchsorted(self._offsets, positions_N, side="right") - 1
        return users_N, self._ratings_T[positions_N]

    def training_counts(self, users_N: Rows) -> Rows:
        """How many training ratings each of some users has."""
        counts_N: Rows = self._offsets[users_N + 1] - self._offsets[users_N]
        return counts_N


class Recent(Generic[Key, Value]):
    """At most `max_kept` values that were computed with a model, those put last. For one thread.

    Each model keeps its own, and they go with it; what `shows_items` goes when other items are shown.
    """

    def __init__(self, max_kept: int, *, shows_items: bool) -> None:
        self._max_kept, self.shows_items = max_kept, shows_items

    def get(self, model: ServingModel, key: Key) -> Value | None:
        """The value kept under a key."""
        values: dict[Key, Value] | None = model.kept.get(self)
        return None if values is None else values.get(key)

    def put(self, model: ServingModel, key: Key, value: Value) -> None:
        """Keep a value."""
        if self._max_kept == 0:
            return
        values: dict[Key, Value] = model.kept.setdefault(self, {})
        values.pop(key, None)
        if len(values) >= self._max_kept:
            del values[next(iter(values))]
        values[key] = value


def _slots(users: Vocabulary, revisions: Revisions | None) -> npt.NDArray[np.int32]:
    return np.empty(0, np.int32) if revisions is None else revisions.slots_of(users)


def _allowed(catalogue: Catalogue, ordering: Sharded, wanted: ItemFilter) -> AllowedItems:
    mask_I = catalogue.allowed(wanted)
    few = len(mask_I) - np.count_nonzero(mask_I) <= FEW_OTHERS * len(mask_I)
    return AllowedItems(mask_I, ordering.cut(torch.from_numpy(mask_I)), np.flatnonzero(~mask_I) if few else None)
