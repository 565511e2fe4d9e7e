"""The limits of one request. A request beyond a limit is an error, before any work is done.

The error names the setting of the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from app.api.encodings.ids import too_many_pairs
from app.engine.types import Ids, InlineRatings, Pairs
from app.errors import InvalidRequestError
from app.ratings.records import storable


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request: pairs, items of a list, characters of an id, ratings given with it, items of a list that
    are left out.
    """

    pairs: int
    list_length: int
    id_length: int
    inline_ratings: int
    offset: int = 10_000

    @property
    def values(self) -> int:
        """Most values of a JSON body: four columns of pairs, or ratings given with the request, and some members."""
        return 4 * (self.pairs + self.inline_ratings) + 1_000

    @property
    def members(self) -> int:
        """Most members of all objects of a JSON body: two of each rating, so that too many are told what they are."""
        return 2 * max(self.pairs, self.inline_ratings) + 1_000

    def check_id(self, id_: str, *location: str) -> None:
        """Raise InvalidRequestError for an id that is empty or too long."""
        if not id_:
            raise InvalidRequestError(location, "an id has at least one character")
        if len(id_) > self.id_length:
            raise self._id_too_long(location)

    def _id_too_long(self, location: Sequence[str]) -> InvalidRequestError:
        return InvalidRequestError(location, f"an id has at most {self.id_length} characters (RATECAST_MAX_ID_LENGTH)")

    def check_ids(self, ids: Ids, *location: str) -> None:
        """Raise InvalidRequestError for the first id that is empty or too long."""
        if isinstance(ids, pa.ChunkedArray):
            self._check_array(ids, *location)
            return
        for position, id_ in enumerate(ids):
            if not 0 < len(id_) <= self.id_length:
                self.check_id(id_, *location, str(position))

    def _check_array(self, ids: pa.ChunkedArray, *location: str) -> None:
        """In characters, but counted only where there are enough bytes for too many."""
        for chunk in ids.chunks:
            texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            bytes_ = pc.min_max(pc.binary_length(texts)).as_py()
            if bytes_["min"] == 0:
                raise InvalidRequestError(location, "an id has at least one character")
            if (bytes_["max"] or 0) > self.id_length and pc.max(pc.utf8_length(texts)).as_py() > self.id_length:
                raise self._id_too_long(location)

    def allow(self, pairs: Pairs) -> bool:
        """Whether columns, whose ids have been checked, are of one length and not too long."""
        return len(pairs.users) == len(pairs.items) <= self.pairs

    def check_pairs(self, pairs: Pairs) -> None:
        """Raise InvalidRequestError for columns that are unequal, too long or hold ids that cannot be used."""
        users, items = len(pairs.users), len(pairs.items)
        if users != items:
            raise InvalidRequestError(
                ("body",), f"the columns must have the same length, but there are {users} users and {items} items"
            )
        self.check_column(pairs.users, "body", "users")
        self.check_column(pairs.items, "body", "items")

    def check_column(self, ids: Ids, *location: str) -> None:
        """Raise InvalidRequestError for a column of pairs that is too long or holds ids that cannot be used."""
        if len(ids) > self.pairs:
            raise InvalidRequestError(("body",), too_many_pairs(self.pairs))
        self.check_ids(ids, *location)

    def check_list(self, n: int, *location: str) -> None:
        """Raise InvalidRequestError for a list that is too long."""
        if n > self.list_length:
            raise InvalidRequestError(location, f"a list holds at most {self.list_length} items (RATECAST_MAX_LIST)")

    def check_offset(self, offset: int, *location: str) -> None:
        """Raise InvalidRequestError for a page that begins too deep in a list."""
        if offset > self.offset:
            raise InvalidRequestError(location, f"a page begins at most at {self.offset} (RATECAST_MAX_OFFSET)")

    def check_lists(self, users: Sequence[str], n: int) -> None:
        """Raise InvalidRequestError for lists that together find more items than a request may hold pairs."""
        if len(users) * n > self.pairs:
            raise InvalidRequestError(
                ("body",), f"a request's lists find at most {self.pairs} items together (RATECAST_MAX_PAIRS)"
            )

    def check_filter(self, ids: Sequence[str], *location: str) -> None:
        """Raise InvalidRequestError for a filter that names more items than a request may hold pairs."""
        if len(ids) > self.pairs:
            raise InvalidRequestError(location, f"a filter names at most {self.pairs} items (RATECAST_MAX_PAIRS)")

    def check_inline(self, inline: InlineRatings, scale: tuple[float, float]) -> None:
        """Raise InvalidRequestError for too many ratings, two of one item, or one that is not on the scale."""
        if len(inline.items) > self.inline_ratings:
            raise InvalidRequestError(
                ("body", "ratings"),
                f"a request has at most {self.inline_ratings} ratings (RATECAST_MAX_INLINE_RATINGS)",
            )
        known: set[str] = set()
        for position, (item, rating) in enumerate(zip(inline.items, inline.ratings, strict=True)):
            where = ("body", "ratings", str(position))
            self.check_id(item, *where, "item")
            check_scale(rating, scale, *where, "rating")
            if item in known:
                raise InvalidRequestError((*where, "item"), "each item may be rated only once")
            known.add(item)

    def check_storable(self, id_: str, *location: str) -> None:
        """As `check_id`, and raise it for an id that a database cannot store."""
        self.check_id(id_, *location)
        if not storable(id_):
            raise InvalidRequestError(location, "an id that is stored must not have a NUL or a lone surrogate")


def check_scale(rating: float, scale: tuple[float, float], *location: str) -> None:
    """Raise InvalidRequestError for a rating that is not on the scale."""
    if not scale[0] <= rating <= scale[1]:
        raise InvalidRequestError(location, f"a rating must be between {scale[0]:g} and {scale[1]:g}")
