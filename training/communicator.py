"""The processes that fit one model together, as one of them sees the others.

Each process of a distributed job is a *rank*. It runs the same job on its own users and their ratings, and calls
a `Communicator` for everything that concerns all ranks. This module does not know torch.distributed.
Shapes: R rows of one side on this rank, K columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.mf import with_average_row

DRAW_ROWS = 1 << 16  # rows drawn at a time
BLOCK = 64  # rows with one generator; a rank has whole blocks, so every rank draws the same
T = TypeVar("T")


class Communicator:
    """Operations over all ranks. In this class a single process is the only rank, so each operation is trivial.

    Every rank makes the same calls in the same order. `training.distributed.group.Group` has several ranks.
    """

    rank, size = 0, 1
    thread_safe: ClassVar[bool] = True  # whether several threads of a rank may use it at the same time

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks' tensors, which all have one shape."""
        return values

    def least(self, values: Tensor) -> Tensor:
        """The smallest of the ranks' numbers in each place of tensors of one shape."""
        return values

    def gathered(self, rows_RK: Tensor, span: Span) -> Tensor:  # noqa: ARG002
        """All rows of a side, on every rank, given the rows of each rank's `Span`."""
        return rows_RK

    def from_first(self, values: Tensor) -> Tensor:
        """The first rank's tensor. All have one shape."""
        return values

    def agreed(self, value: T) -> T:
        """The first rank's value."""
        return value

    def all_objects(self, mine: T) -> list[T]:
        """The ranks' values, on all of them: tensors, numbers and texts, in tuples, lists and dictionaries.

        No tensor among them is a part of a larger one, which would be sent.
        """
        return [mine]

    def pooled(self, mean: float, weight: int) -> float:  # noqa: ARG002
        """The mean over the numbers of all ranks, given the mean of this rank's `weight` numbers."""
        return mean

    def row_mean(self, table_RK: Tensor, total: int) -> Tensor:  # noqa: ARG002
        """The mean of the `total` rows of all ranks, (K,)."""
        return table_RK.mean(0)

    def row_variance(self, table_RK: Tensor, total: int) -> Tensor:  # noqa: ARG002
        """The variance of the `total` rows of all ranks, (K,)."""
        return table_RK.var(0, correction=0)

    def qr(self, rows_RK: Tensor) -> tuple[Tensor, Tensor]:
        """Q and R of the rows of all ranks: this rank's rows of Q, and all of R."""
        basis_RK, core_KK = torch.linalg.qr(rows_RK)
        return basis_RK, core_KK

    def with_average_row(self, table_RK: Tensor, counts_R: Tensor) -> Tensor:
        """`models.mf.with_average_row` over the rows of all ranks; every rank appends the same row."""
        return with_average_row(table_RK, counts_R)

    def total(self, count: int) -> int:
        """The sum of a whole number."""
        return int(self.sum(torch.tensor(count)))

    def span(self, count: int) -> Span:
        """Where rows are among those of all ranks, if this one has so many and they stand in the order of the ranks."""
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = count
        return Span((0, *self.sum(counts).cumsum(0).tolist()), self.rank)

    def smallest(self, value: float) -> float:
        return float(self.least(torch.tensor(value, dtype=torch.float64)))

    def largest(self, value: float) -> float:
        return -self.smallest(-value)

    def mean(self, values_N: Tensor) -> Tensor:
        """The mean over the numbers of all ranks, float64."""
        return self.sum(values_N.sum(dtype=torch.float64)) / self.total(len(values_N))


SINGLE_PROCESS = Communicator()


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one side that are on this rank: `bounds[rank]` up to `bounds[rank + 1]` of all of them."""

    bounds: tuple[int, ...]
    rank: int

    @classmethod
    def whole(cls, rows: int) -> Span:
        return cls((0, rows), 0)

    @classmethod
    def even(cls, rows: int, communicator: Communicator, multiple: int = 1) -> Span:
        """Blocks of ⌈rows / ranks⌉, or the next multiple; the last may be shorter or empty.

        Without a multiple this is the layout of a sharded DTensor.
        """
        size = communicator.size
        block = -(-rows // size // multiple) * multiple
        return cls(tuple(min(rank * block, rows) for rank in range(size + 1)), communicator.rank)

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

    def owners(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rank of each row; the last one for the index past all rows."""
        return np.searchsorted(np.array(self.bounds[1:-1]), rows_N, side="right")


@dataclass(frozen=True, slots=True)
class LocalRows:
    """The rows of one side that are on this rank, with operations over the rows of all ranks."""

    communicator: Communicator
    span: Span

    def mean(self, table_RK: Tensor) -> Tensor:
        """The mean of all rows, (K,)."""
        return self.communicator.row_mean(table_RK, self.span.total)

    def variance(self, table_RK: Tensor) -> Tensor:
        """The variance of all rows, (K,)."""
        return self.communicator.row_variance(table_RK, self.span.total)


def drawn_rows(rng: np.random.Generator, span: Span, width: int) -> NDArray[np.float32]:
    """The rows of a span, as `rng.standard_normal((total, width))` draws them for all rows, float32."""
    drawn_RK = np.empty((len(span), width), np.float32)
    for begin in range(0, span.total, DRAW_ROWS):
        end = min(begin + DRAW_ROWS, span.total)
        block_BK = rng.standard_normal((end - begin, width), dtype=np.float32)
        first, last = max(begin, span.start), min(end, span.stop)
        if first < last:
            drawn_RK[first - span.start : last - span.start] = block_BK[first - begin : last - begin]
    return drawn_RK
