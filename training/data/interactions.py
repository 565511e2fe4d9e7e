"""Ratings as indices into vocabularies. This module does not know sources or splits.

Shapes: N ratings, U users, I items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
NO_TIME = -(1 << 62)  # the timestamp of a rating that has none: older than all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Ratings in file order, all finite.

    Attributes:
        users_N, items_N: index into the distinct ids of each rating; the one past their end for an unknown id.
        timestamps_N: seconds since 1970, `NO_TIME` for a rating without a time; None if no rating has one.
    """

    users_N: Int32s
    items_N: Int32s
    ratings_N: Float32s
    timestamps_N: Int64s | None
    user_ids: pa.StringArray
    item_ids: pa.StringArray

    def __len__(self) -> int:
        return len(self.ratings_N)

    @property
    def users(self) -> int:
        return len(self.user_ids)

    @property
    def items(self) -> int:
        return len(self.item_ids)

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating; ±∞ without ratings."""
        if len(self) == 0:
            return np.inf, -np.inf
        return float(self.ratings_N.min()), float(self.ratings_N.max())

    @property
    def first_and_last(self) -> tuple[int, int] | None:
        """The earliest and the latest timestamp; None without timestamps."""
        times_N = np.empty(0, np.int64) if self.timestamps_N is None else self.timestamps_N
        known_N = times_N[times_N != NO_TIME]
        return (int(known_N.min()), int(known_N.max())) if len(known_N) else None

    def take(self, rows: Int64s) -> Interactions:
        """The given rows in the given order, under the same vocabularies."""
        users_N, items_N, ratings_N = self.users_N[rows], self.items_N[rows], self.ratings_N[rows]
        timestamps_N = None if self.timestamps_N is None else self.timestamps_N[rows]
        return replace(self, users_N=users_N, items_N=items_N, ratings_N=ratings_N, timestamps_N=timestamps_N)

    def compacted(self) -> Interactions:
        """The same ratings under vocabularies that hold only the ids which occur, in their old order."""
        users_N, user_ids = _compact(self.users_N, self.user_ids)
        items_N, item_ids = _compact(self.items_N, self.item_ids)
        return replace(self, users_N=users_N, items_N=items_N, user_ids=user_ids, item_ids=item_ids)

    def aligned(self, user_ids: pa.StringArray, item_ids: pa.StringArray) -> Interactions:
        """The same ratings under other vocabularies; an id that these lack becomes the index past their end."""
        return replace(
            self,
            users_N=_positions(self.user_ids, user_ids)[self.users_N],
            items_N=_positions(self.item_ids, item_ids)[self.items_N],
            user_ids=user_ids,
            item_ids=item_ids,
        )

    def pairs_N(self) -> Int64s:
        """One number per (user, item) pair, equal for equal pairs under the same vocabularies."""
        return self.users_N.astype(np.int64) * (self.items + 1) + self.items_N


def _compact(codes_N: Int32s, ids: pa.StringArray) -> tuple[Int32s, pa.StringArray]:
    used = np.bincount(codes_N, minlength=len(ids)) > 0
    renumbered = np.cumsum(used, dtype=np.int32) - 1
    return renumbered[codes_N], ids.filter(pa.array(used))


def _positions(ids: pa.StringArray, within: pa.StringArray) -> Int32s:
    """Position of each id in `within`, its length for one that is missing; then one for the index past the end."""
    found = pc.index_in(ids, value_set=within).fill_null(len(within)).to_numpy(zero_copy_only=False)
    return np.append(found, len(within)).astype(np.int32)
