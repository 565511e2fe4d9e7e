"""The training ratings of one rank, with the computations and random numbers that depend on the other ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.communicator import BLOCK, LocalRows, Span
from training.distributed.als import NUMBER, BlockUsers, Items, WholeUsers
from training.distributed.gibbs import DistributedItems, DistributedUsers, Exchange
from training.distributed.group import Group
from training.fit.kernels import als_rows, gibbs
from training.fit.kernels.gibbs import RandomStream
from training.fit.kernels.grouping import Triplets
from training.fit.trainer import MakeRows, TrainingSet


@dataclass(frozen=True, kw_only=True)
class DistributedTrainingSet(TrainingSet):
    """The ratings of this rank's users. Tables of the two sides hold the rows of `user_span` and `item_span`."""

    communicator: Group

    def als_sides(
        self, values_N: Tensor, make: MakeRows[als_rows.Rows], width: int
    ) -> tuple[als_rows.Solver, als_rows.Solver]:
        group = self.communicator
        items = Items(group, self, values_N, make, width)
        if NUMBER * self.items * width > group.item_bytes:
            return BlockUsers(group, self, values_N, make, width), items
        by_user = make(Triplets(self.users_N, self.items_N, values_N, self.users, self.items))
        return WholeUsers(group, self.item_span, by_user), items

    def gibbs_sides(self, values_N: Tensor, make: MakeRows[gibbs.Rows], width: int) -> tuple[gibbs.Rows, gibbs.Rows]:
        if self.communicator.size == 1:  # one rank has all rows, and draws effects one after the other
            return self.grouped(values_N, make)
        exchange = Exchange(self.communicator, self.item_span, *self.grouped(values_N, make))
        return DistributedUsers(exchange), DistributedItems(exchange, self, values_N, make, width)

    def random_stream(self, key: int, chain: int, sweep: int) -> RandomStream:
        return RowStream(key, chain, sweep, self.device)


class RowStream(RandomStream):
    """Random numbers that a row gets whichever rank it is on, so that any number of ranks draws the same chain.

    On the CPU every block of rows has a generator of its own. On CUDA every rank has one, and numbers differ.
    """

    def row_normal(self, local: LocalRows, width: int) -> Tensor:
        if self._cuda is not None:
            return self._of_this_rank(local).normal(len(local.span), width)
        blocks = [
            generator.standard_normal((len(rows), width), dtype=np.float32)
            for rows, generator in self._blocks(local.span)
        ]
        return torch.from_numpy(np.concatenate([np.empty((0, width), np.float32), *blocks]))

    def row_gamma(self, local: LocalRows, shape_R: Tensor) -> Tensor:
        if self._cuda is not None:
            return self._of_this_rank(local).gamma(shape_R)
        blocks = [
            generator.standard_gamma(shape_R[rows.start : rows.stop].numpy())
            for rows, generator in self._blocks(local.span)
        ]
        return torch.from_numpy(np.concatenate([np.empty(0), *blocks]))

    def _blocks(self, span: Span) -> Iterator[tuple[range, np.random.Generator]]:
        """Rows of the span, counted from 0, each block with the generator of this call and of the block."""
        self._calls += 1
        for begin in range(span.start, span.stop, BLOCK):
            counter = [0, 1 + begin // BLOCK, self._calls, self._sweep]
            rows = range(begin - span.start, min(begin + BLOCK, span.stop) - span.start)
            yield rows, np.random.Generator(np.random.Philox(key=self._key, counter=counter))

    def _of_this_rank(self, local: LocalRows) -> RandomStream:
        """The stream of this call, which no other rank has."""
        self._calls += 1
        own = RowStream(self._key[0] ^ (self._calls << 32), self._key[1], self._sweep, self._device)
        own._cuda.manual_seed(int(own._host.integers(2**62)) + local.span.rank)  # type: ignore[union-attr]
        return own
