"""The processes that fit one model together, as one of them sees the others. Alone, everything here costs nothing.

Every rank runs the same job on its own users and their ratings; sums over all of them go through `Communicator`.
This module does not import torch.distributed: `training.distributed.group` has the ranks that torchrun starts.
Shapes: R rows of one side that are here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.launch import started_by_torchrun

DRAWN_AT_ONCE = 1 << 16  # rows
BLOCK = 64  # rows whose random numbers come from one generator: ranks have whole blocks, so that numbers are the same
T = TypeVar("T")


class Communicator(ABC):
    """Reductions over all ranks. Every rank makes the same calls in the same order."""

    rank: int
    size: int

    @abstractmethod
    def sum(self, values: Tensor) -> Tensor:
        """The sum of every rank's tensor, which all have one shape."""

    @abstractmethod
    def gathered(self, rows_RK: Tensor, span: Span) -> Tensor:
        """All rows of a side of which each rank has a `Span`, on every rank."""

    @abstractmethod
    def stacked(self, values: Tensor) -> Tensor:
        """Every rank's tensor, all of one shape, along a new first dimension."""

    def from_first(self, values: Tensor) -> Tensor:
        """The first rank's tensor. All have one shape."""
        return self.sum(values if self.first else torch.zeros_like(values))

    @abstractmethod
    def agreed(self, value: T) -> T:
        """What the first rank says."""

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent to the others so far."""
        return 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, count: int) -> int:
        """The sum of a whole number."""
        return int(self.sum(torch.tensor(count)))

    def largest(self, value: float) -> float:
        return float(self.stacked(torch.tensor(value, dtype=torch.float64)).max())

    def smallest(self, value: float) -> float:
        return -self.largest(-value)

    def pooled(self, mean: float, weight: int) -> float:
        """The mean over the numbers of all ranks, given this one's mean of so many."""
        sums = self.sum(torch.tensor([mean * weight if weight else 0.0, weight], dtype=torch.float64))
        return float(sums[0] / sums[1])

    def mean(self, values_N: Tensor) -> Tensor:
        """The mean over the numbers of all ranks, float64."""
        return self.sum(values_N.sum(dtype=torch.float64)) / self.total(len(values_N))

    def with_average_row(self, table_RK: Tensor, counts_R: Tensor) -> Tensor:
        """`models.mf.with_average_row` for a table whose rows are on several ranks; the same row on each."""
        weights_R = (counts_R / self.sum(counts_R.sum()).clamp(min=1)).to(table_RK.dtype)
        average = self.sum(torch.tensordot(weights_R, table_RK, dims=1))
        return torch.cat([table_RK, average[None]])


class _Alone(Communicator):
    """The only rank."""

    rank, size = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        return values

    def gathered(self, rows_RK: Tensor, span: Span) -> Tensor:  # noqa: ARG002
        return rows_RK

    def stacked(self, values: Tensor) -> Tensor:
        return values[None]

    def agreed(self, value: T) -> T:
        return value

    def pooled(self, mean: float, weight: int) -> float:  # noqa: ARG002
        return mean


ALONE: Communicator = _Alone()


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one side that are on this rank: `bounds[rank]` up to `bounds[rank + 1]` of all of them."""

    bounds: tuple[int, ...]
    rank: int

    @classmethod
    def whole(cls, rows: int) -> Span:
        return cls((0, rows), 0)

    @classmethod
    def even(cls, rows: int, ranks: Communicator, multiple: int = 1) -> Span:
        """Blocks of ⌈rows / ranks⌉, or the next multiple, of which the last may be shorter or empty.

        Without a multiple this is the layout of a sharded DTensor.
        """
        block = -(-rows // ranks.size // multiple) * multiple
        return cls(tuple(min(rank * block, rows) for rank in range(ranks.size + 1)), ranks.rank)

    @property
    def start(self) -> int:
        return self.bounds[self.rank]

    @property
    def stop(self) -> int:
        return self.bounds[self.rank + 1]

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def total(self) -> int:
        return self.bounds[-1]

    @property
    def longest(self) -> int:
        """The most rows that any rank has."""
        return max(stop - start for start, stop in pairwise(self.bounds))


@dataclass(frozen=True, slots=True)
class LocalRows:
    """The rows of one side that are here, and how to sum over all of them."""

    ranks: Communicator
    span: Span

    @classmethod
    def alone(cls, rows: int) -> LocalRows:
        return cls(ALONE, Span.whole(rows))

    def mean(self, table_RK: Tensor) -> Tensor:
        """The mean of all rows, (K,)."""
        if self.ranks is ALONE:
            return table_RK.mean(0)
        return (self.ranks.sum(table_RK.sum(0, dtype=torch.float64)) / self.span.total).to(table_RK.dtype)

    def variance(self, table_RK: Tensor) -> Tensor:
        """The variance of all rows, (K,)."""
        if self.ranks is ALONE:
            return table_RK.var(0, correction=0)
        return self.mean((table_RK - self.mean(table_RK)).square())


@contextmanager
def joined(device: str, item_bytes: int | None) -> Iterator[tuple[Communicator, str]]:
    """The ranks that torchrun has started, this one among them, and the device it is to use; else a single rank.

    `item_bytes` is the most that a copy of all items' rows may take on a rank.
    """
    if not started_by_torchrun():
        yield ALONE, device
        return
    from training.distributed import group  # noqa: PLC0415 - it costs nothing where there is one process

    with group.joined(device, item_bytes) as joined_group:
        yield joined_group, str(joined_group.device)


def drawn_rows(rng: np.random.Generator, span: Span, width: int) -> NDArray[np.float32]:
    """The rows of a span of what `rng.standard_normal((total, width))` draws for all of them, float32."""
    drawn_RK = np.empty((len(span), width), np.float32)
    for begin in range(0, span.total, DRAWN_AT_ONCE):
        end = min(begin + DRAWN_AT_ONCE, span.total)
        block_BK = rng.standard_normal((end - begin, width), dtype=np.float32)
        first, last = max(begin, span.start), min(end, span.stop)
        if first < last:
            drawn_RK[first - span.start : last - span.start] = block_BK[first - begin : last - begin]
    return drawn_RK
