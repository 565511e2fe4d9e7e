"""The model being served, in a holder that can be swapped. Whoever answers takes one snapshot and keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from app.engine.answers import Genre, RankBy
from app.engine.errors import NotReadyError, OrderingUnavailableError
from app.engine.scorer import Scorer
from app.store.changes import Changes
from models.checkpoint import Checkpoint
from models.fold_in import FoldIn
from models.lifecycle import Hold
from models.ranking import Ordering, by_popularity, orderings

CACHED_TITLES = 16_384  # of the items listed most lately; looking one up takes 4 µs, ten are a list
CACHED_CATEGORIES = 64
NO_YEAR = -(1 << 31)
ACCENTS = r"\p{Mn}+"


class Title(NamedTuple):
    """What a list shows of an item."""

    id: str
    title: str | None
    year: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One checkpoint, ready to answer from.

    Attributes:
        checkpoint: the model and what is known about its users and items.
        scorer: predicts with its tables.
        orderings: what can order a list.
        cells: multiplications that scoring the whole catalogue for one user takes, in the order that takes most.
        popularity: orders the list of an unknown user: by the number of training ratings.
        seen_offsets, seen_N, ratings_N: the training ratings of each user as compressed rows, in the host's memory.
        slots_U: where each user stands in the table of changes; empty where nobody looks.
        fold_in: folds in those with fresh ratings.
        unknown_variance: what not knowing the user at all adds to the variance of a rating; None where it is unknown.
        title: id, title and year of an item's row.
        category: mask of the items of a genre, bool, (I,), on the model's device.
        years: year of each item, int32, (I,), `NO_YEAR` where it is not known, on the model's device.
        folded_titles: titles as `fold_text` makes them, for searches.
        genres: how many items there are of each.
        directions: the items' factors in the default order of lists, (I, G), and their norms, (I,).
        hold: keeps the version from being pruned; None where nobody would.
    """

    checkpoint: Checkpoint
    scorer: Scorer
    orderings: Mapping[str, Ordering]
    cells: int
    popularity: Ordering
    seen_offsets: npt.NDArray[np.int64]
    seen_N: npt.NDArray[np.int32]
    ratings_N: npt.NDArray[np.float32]
    slots_U: npt.NDArray[np.int32]
    fold_in: FoldIn
    unknown_variance: float | None
    title: Callable[[int], Title]
    category: Callable[[str], Tensor]
    years: Callable[[], Tensor]
    folded_titles: Callable[[], pa.Array]
    genres: Callable[[], list[Genre]]
    directions: Callable[[], tuple[Tensor, Tensor]]
    hold: Hold | None

    @classmethod
    def of(cls, loaded: Checkpoint, hold: Hold | None = None, changes: Changes | None = None) -> Self:
        shape = loaded.manifest.model
        catalogue = loaded.catalogue
        ids, titles, years = (catalogue[name] for name in ("id", "title", "year"))
        genres = catalogue["genres"]
        counts_I = torch.tensor(loaded.ratings_I)

        def title(row: int) -> Title:
            return Title(ids[row].as_py(), titles[row].as_py(), years[row].as_py())

        def category(name: str) -> Tensor:
            items = np.repeat(np.arange(len(genres)), pc.fill_null(pc.list_value_length(genres), 0))
            mask_I = np.zeros(len(genres), dtype=np.bool_)
            mask_I[items[np.asarray(pc.fill_null(pc.equal(pc.list_flatten(genres), name), False))]] = True
            return torch.from_numpy(mask_I).to(loaded.model.device)

        def year_I() -> Tensor:
            filled = pc.fill_null(years, NO_YEAR).combine_chunks()
            return torch.tensor(filled.to_numpy(zero_copy_only=False)).to(loaded.model.device)

        def counted_genres() -> list[Genre]:
            counts = pc.value_counts(pc.drop_null(pc.list_flatten(genres))).to_pylist()
            found = [Genre(count["values"], count["counts"]) for count in counts]
            return sorted(found, key=lambda genre: (-genre.items, genre.name))

        known, variance = orderings(loaded), loaded.model.user_variance

        def directions() -> tuple[Tensor, Tensor]:
            order = RankBy.RELEVANCE if RankBy.RELEVANCE in known else RankBy.RATING
            table_IG = known[order].item_factors[:-1]
            return table_IG, torch.linalg.vector_norm(table_IG, dim=1)

        return cls(
            checkpoint=loaded,
            scorer=Scorer(loaded.model, (shape.rating_min, shape.rating_max)),
            orderings=known,
            cells=max(ordering.item_factors.numel() for ordering in known.values()),
            popularity=by_popularity(counts_I.to(loaded.model.device)),
            seen_offsets=loaded.seen.offsets.cpu().numpy(),
            seen_N=loaded.seen.items_N.cpu().numpy(),
            ratings_N=loaded.seen.ratings_N.cpu().numpy(),
            slots_U=np.empty(0, np.int32) if changes is None else changes.slots_of(loaded.users),
            fold_in=FoldIn(loaded),
            unknown_variance=None if variance is None else float(variance[-1]),
            title=lru_cache(CACHED_TITLES)(title),
            category=lru_cache(CACHED_CATEGORIES)(category),
            years=lru_cache(1)(year_I),
            folded_titles=lru_cache(1)(lambda: fold_text(titles)),
            genres=lru_cache(1)(counted_genres),
            directions=lru_cache(1)(directions),
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
            return RankBy.RELEVANCE if RankBy.RELEVANCE in self.orderings else RankBy.RATING
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

    def __init__(self, device: torch.device) -> None:
        self.device = device
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
