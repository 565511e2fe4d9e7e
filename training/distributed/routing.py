"""Sends rows and texts to the ranks they belong to, and answers back. Shapes: N rows here, M rows that arrive."""

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
    """Where each row of a table goes: sends columns there, and answers back.

    Attributes:
        order_N: the rows in the order of the ranks that they go to.
        out, into: how many rows go to each rank, and come from it.
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

    def send(self, column_N: Column) -> Column:
        """Send a column, and return what all ranks send to this one, rank by rank."""
        rows = torch.from_numpy(np.ascontiguousarray(column_N[self.order_N]))
        came: Column = torch.cat(self.group.passed(rows, self.out, self.into)).numpy()
        return came

    def send_back(self, answers_M: Column) -> Column:
        """Send answers to the rows that arrived, and return the answers to the rows that were sent, in their order."""
        answers = torch.cat(self.group.passed(torch.from_numpy(answers_M), self.into, self.out)).numpy()
        result = np.empty_like(answers)
        result[self.order_N] = answers
        return result

    def send_texts(self, texts: pa.StringArray) -> pa.StringArray:
        """`send` for texts."""
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
        parts.append(Route.to(group, owner_N).send_texts(texts))
    return parts[group.rank]


def _texts(lengths_M: Int64s, content: npt.NDArray[np.uint8]) -> pa.StringArray:
    offsets = np.append(0, np.cumsum(lengths_M)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(lengths_M), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(content))
    )
