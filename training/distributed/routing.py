"""Rows, and texts, sent to the ranks they belong to, and answers sent back. Shapes: N rows here, M rows that came."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from training.data.interactions import Int64s
from training.distributed.group import Group

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Route:
    """Where each row of a table goes; it takes columns there and answers back.

    Attributes:
        order_N: the rows by the rank that they go to.
        out, into: how many rows go to, and come from, each rank.
    """

    group: Group
    order_N: Int64s
    out: list[int]
    into: list[int]

    @classmethod
    def to(cls, group: Group, owner_N: Int64s) -> Route:
        """The route of rows to the ranks that own them."""
        out = np.bincount(owner_N, minlength=group.size)
        into = group.swapped(torch.from_numpy(out)).tolist()
        return cls(group, np.argsort(owner_N, kind="stable"), out.tolist(), into)

    def there(self, column_N: Column) -> Column:
        """What all ranks send to this one: the first rank's rows first, each rank's in their order."""
        rows = torch.from_numpy(np.ascontiguousarray(column_N[self.order_N]))
        came: Column = torch.cat(self.group.passed(rows, self.out, self.into)).numpy()
        return came

    def back(self, answers_M: Column) -> Column:
        """The answers to the rows that were sent, in the order of these, given those to the rows that came."""
        answers = torch.cat(self.group.passed(torch.from_numpy(answers_M), self.into, self.out)).numpy()
        result = np.empty_like(answers)
        result[self.order_N] = answers
        return result

    def texts_there(self, texts: pa.StringArray) -> pa.StringArray:
        """`there` for texts."""
        sorted_texts = texts.take(pa.array(self.order_N))
        lengths_N = pc.binary_length(sorted_texts).to_numpy(zero_copy_only=False).astype(np.int64)
        ends_N = np.append(0, np.cumsum(lengths_N))
        cuts = np.append(0, np.cumsum(self.out))
        content = np.frombuffer("".join(sorted_texts.to_pylist()).encode(), np.uint8).copy()
        parts = [torch.from_numpy(content[ends_N[a] : ends_N[b]]) for a, b in pairwise(cuts.tolist())]
        lengths = torch.cat(self.group.passed(torch.from_numpy(lengths_N), self.out, self.into)).numpy()
        came = torch.cat(self.group.exchanged(parts)).numpy()
        return _texts(lengths, came)


def all_texts(group: Group, texts: pa.StringArray) -> pa.StringArray:
    """The texts of all ranks, in the order of the ranks, on each of them."""
    parts = []
    for rank in range(group.size):  # a copy to each
        owner_N = np.full(len(texts), rank)
        parts.append(Route.to(group, owner_N).texts_there(texts))
    return parts[group.rank]


def _texts(lengths_M: Int64s, content: npt.NDArray[np.uint8]) -> pa.StringArray:
    offsets = np.append(0, np.cumsum(lengths_M)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(lengths_M), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(content))
    )
