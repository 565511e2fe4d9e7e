"""Sends rows and texts to the ranks they belong to, and answers back. Shapes: N rows here, M rows that arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

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
        came: Column = self.group.passed(torch.from_numpy(column_N[self.order_N]), self.out, self.into).numpy()
        return came

    def send_back(self, answers_M: Column) -> Column:
        """Send answers to the rows that arrived, and return the answers to the rows that were sent, in their order."""
        answers = self.group.passed(torch.from_numpy(answers_M), self.into, self.out).numpy()
        result = np.empty_like(answers)
        result[self.order_N] = answers
        return result

    def send_texts(self, texts: pa.StringArray) -> pa.StringArray:
        """`send` for texts."""
        parts = np.split(self.order_N, np.cumsum(self.out)[:-1])
        return _exchanged(self.group, [texts.take(pa.array(part)) for part in parts])


def all_texts(group: Group, texts: pa.StringArray) -> pa.StringArray:
    """The texts of all ranks, in the order of the ranks, on each of them."""
    return _exchanged(group, [texts] * group.size)


def _exchanged(group: Group, parts: list[pa.StringArray]) -> pa.StringArray:
    """Send texts to each rank, as streams of Arrow, and return what all ranks send to this one."""
    came = group.exchanged([_stream(part) for part in parts])
    return pa.concat_arrays([pa.ipc.open_stream(stream.numpy()).read_next_batch().column(0) for stream in came])


def _stream(texts: pa.StringArray) -> Tensor:
    sink, batch = pa.BufferOutputStream(), pa.record_batch([texts], ["text"])
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return torch.frombuffer(bytearray(sink.getvalue()), dtype=torch.uint8)
