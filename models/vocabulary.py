"""Ids to table rows and back. An id that is not held maps to the row for unknown ids, the one past the last."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Vocabulary:
    """N distinct string ids; the position of an id is its row in the model's tables.

    Args:
        ids: the ids in row order, no nulls, no repetitions (a ValueError otherwise).
    """

    def __init__(self, ids: pa.StringArray) -> None:
        if ids.null_count or len(ids.unique()) != len(ids):
            raise ValueError("ids must be distinct and not null")
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._index

    def __getitem__(self, row: int) -> str:
        return str(self.ids[row])

    @cached_property
    def _index(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids.to_pylist())}

    def row(self, id_: str) -> int:
        """Row of an id, or N for one that is not held."""
        return self._index.get(id_, len(self))

    def rows(self, ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Row of each id, N for those that are not held."""
        unknown = len(self)
        get = self._index.get
        return np.array([get(id_, unknown) for id_ in ids], dtype=np.int64)

    def lookup(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Id of each row; rows are within 0 … N−1."""
        ids: list[str] = self.ids.take(pa.array(rows)).to_pylist()
        return ids
