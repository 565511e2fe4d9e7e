"""The model being served, in a holder that can be swapped. Whoever answers takes one snapshot and keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from app.engine.errors import NotReadyError, OrderingUnavailableError
from app.engine.scorer import Scorer
from app.engine.types import Choice, Genre, RankBy
from app.ratings.revisions import Revisions
from models.checkpoint.reader import Checkpoint
from models.fold_in import FoldIn
from models.orderings import by_popularity, default_order, orderings
from models.registry.lifecycle import Hold
from models.sharding import DevicePlacement, Sharded, spread
from models.similar_items import Nearest

CACHED_TITLES = 16_384  # of the items listed most lately; looking one up takes 4 µs, ten are a list
CACHED_CHOICES = 64
POPULARITY = "popularity"
ACCENTS = r"\p{Mn}+"


class Title(NamedTuple):
    """What a list shows of an item."""

    id: str
    title: str | None
    year: int | None


class Chosen(NamedTuple):
    """Which items are of a choice.

    Attributes:
        mask_I: in the host's memory, bool.
        parts: the same, cut for the devices.
    """

    mask_I: npt.NDArray[np.bool_]
    parts: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One checkpoint, ready to answer from.

    Attributes:
        checkpoint: the model and what is known about its users and items.
        scorer: predicts with its tables.
        orderings: what can order a list.
        default_order: what does unless something else is asked for.
        cells: multiplications that scoring the whole catalogue for one user takes, in the order that takes most.
        popularity: orders the list of an unknown user: by the number of training ratings.
        seen_offsets, seen_N, ratings_N: the training ratings of each user as compressed rows, in the host's memory.
        slots_U: where each user stands in the table of changes; empty where nobody looks.
        fold_in: folds in those with fresh ratings.
        unknown_variance: what not knowing the user at all adds to the variance of a rating; None where it is unknown.
        title: id, title and year of an item's row.
        chosen: which items are of a choice.
        folded_titles: titles as `fold_text` makes them, for searches.
        genres: how many items there are of each.
        nearest: finds the items that are like another one, in the order that lists have by default.
        hold: keeps the version from being pruned; None where nobody would.
    """

    checkpoint: Checkpoint
    scorer: Scorer
    orderings: Mapping[str, Sharded]
    default_order: RankBy
    cells: int
    popularity: Sharded
    seen_offsets: npt.NDArray[np.int64]
    seen_N: npt.NDArray[np.int32]
    ratings_N: npt.NDArray[np.float32]
    slots_U: npt.NDArray[np.int32]
    fold_in: FoldIn
    unknown_variance: float | None
    title: Callable[[int], Title]
    chosen: Callable[[Choice], Chosen]
    folded_titles: Callable[[], pa.Array]
    genres: Callable[[], list[Genre]]
    nearest: Nearest
    hold: Hold | None

    @classmethod
    def of(
        cls,
        loaded: Checkpoint,
        hold: Hold | None = None,
        changes: Revisions | None = None,
        shards: Sequence[torch.device] = (),
    ) -> Self:
        """Make a checkpoint ready. Its items are spread over the `shards`, where there are any."""
        shape = loaded.manifest.model
        catalogue = loaded.catalogue
        ids, titles, years = (catalogue[name] for name in ("id", "title", "year"))
        genres = catalogue["genres"]

        def title(row: int) -> Title:
            return Title(ids[row].as_py(), titles[row].as_py(), years[row].as_py())

        def of_genre(name: str) -> npt.NDArray[np.bool_]:
            items = np.repeat(np.arange(len(genres)), pc.fill_null(pc.list_value_length(genres), 0))
            mask_I = np.zeros(len(genres), dtype=np.bool_)
            mask_I[items[np.asarray(pc.fill_null(pc.equal(pc.list_flatten(genres), name), False))]] = True
            return mask_I

        def chosen(choice: Choice) -> Chosen:
            mask_I = np.ones(len(genres), dtype=np.bool_) if choice.category is None else of_genre(choice.category)
            if choice.year_min is not None:
                mask_I &= np.asarray(pc.fill_null(pc.greater_equal(years, choice.year_min), False))
            if choice.year_max is not None:
                mask_I &= np.asarray(pc.fill_null(pc.less_equal(years, choice.year_max), False))
            return Chosen(mask_I, popularity.cut(torch.from_numpy(mask_I)))

        def counted_genres() -> list[Genre]:
            counts = pc.value_counts(pc.drop_null(pc.list_flatten(genres))).to_pylist()
            found = [Genre(count["values"], count["counts"]) for count in counts]
            return sorted(found, key=lambda genre: (-genre.items, genre.name))

        counts_I = torch.tensor(loaded.ratings_I).to(loaded.model.device)
        known = spread({**orderings(loaded.model, loaded.relevance), POPULARITY: by_popularity(counts_I)}, shards)
        popularity, variance = known.pop(POPULARITY), loaded.model.user_variance

        return cls(
            checkpoint=loaded,
            scorer=Scorer(known[RankBy.RATING], (shape.rating_min, shape.rating_max)),
            orderings=known,
            default_order=RankBy(default_order(known)),
            cells=max(ordering.cells for ordering in known.values()),
            popularity=popularity,
            seen_offsets=loaded.seen.offsets.cpu().numpy(),
            seen_N=loaded.seen.items_N.cpu().numpy(),
            ratings_N=loaded.seen.ratings_N.cpu().numpy(),
            slots_U=np.empty(0, np.int32) if changes is None else changes.slots_of(loaded.users),
            fold_in=FoldIn.of(loaded.model, loaded.prior, loaded.relevance, loaded.ratings_I),
            unknown_variance=None if variance is None else float(variance[-1]),
            title=lru_cache(CACHED_TITLES)(title),
            chosen=lru_cache(CACHED_CHOICES)(chosen),
            folded_titles=lru_cache(1)(lambda: fold_text(titles)),
            genres=lru_cache(1)(counted_genres),
            nearest=Nearest(known[default_order(known)]),
            hold=hold,
        )

    @property
    def version(self) -> str:
        return self.checkpoint.version

    def rank_by(self, wish: RankBy | None) -> RankBy:
        """What orders a list: the wish, by default relevance where the model has it, else the rating.

        Raises OrderingUnavailableError for an order that this model cannot give.
        """
        if wish is None:
            return self.default_order
        if wish not in self.orderings:
            raise OrderingUnavailableError(
                f"this model cannot order by {wish}: it can by {', '.join(sorted(self.orderings))}"
            )
        return wish

    def seen(self, user: int) -> npt.NDArray[np.int32]:
        """Item rows of the user's training ratings."""
        return self.seen_N[self.seen_offsets[user] : self.seen_offsets[user + 1]]

    def rated(self, user: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Item rows of the user's training ratings, and the ratings."""
        own = slice(self.seen_offsets[user], self.seen_offsets[user + 1])
        return self.seen_N[own], self.ratings_N[own]


def fold_text(texts: pa.ChunkedArray) -> pa.Array:
    """Texts as searches compare them: in lower case and without accents. Most have none, and are left alone."""
    folded = pc.utf8_lower(texts).combine_chunks()
    accented_N = pc.fill_null(pc.invert(pc.string_is_ascii(folded)), False)
    bare = pc.replace_substring_regex(pc.utf8_normalize(folded.filter(accented_N), "NFKD"), ACCENTS, "")
    return pc.replace_with_mask(folded, accented_N, bare)


class Store:
    """Holds the current model. Swapping it is one assignment: answers under way keep the snapshot they took."""

    def __init__(self, place: DevicePlacement) -> None:
        self.place = place
        self.served: Served | None = None

    @property
    def current(self) -> Served:
        """The model being served. Raises NotReadyError before the first one is loaded."""
        if self.served is None:
            raise NotReadyError("no model has been loaded yet")
        return self.served

    @property
    def version(self) -> str | None:
        """Of the model being served, None before there is one."""
        return None if self.served is None else self.served.version

    def swap(self, served: Served) -> None:
        """Answer from this model from now on."""
        self.served = served
