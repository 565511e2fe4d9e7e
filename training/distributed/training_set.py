"""The training ratings of one rank, with the computations that need the other ranks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from training.distributed.als import NUMBER, BlockUsers, Items, WholeUsers
from training.distributed.gibbs import DistributedItems, DistributedUsers, Exchange
from training.distributed.group import Group
from training.distributed.random_stream import RowStream
from training.fit.kernels import als_rows, gibbs, gibbs_rows
from training.fit.trainer import GibbsSides, MakeRows, TrainingSet


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
        by_user = make(self.users_N, self.items_N, values_N, self.users, self.items)
        return WholeUsers(group, self.item_span, by_user), items

    def gibbs_sides(self, values_N: Tensor, make: MakeRows[gibbs_rows.Rows], width: int) -> GibbsSides:
        if self.communicator.size == 1:  # one rank has all rows, and draws effects one after the other
            return TrainingSet.gibbs_sides(self, values_N, make, width)
        exchange = Exchange(self.communicator, self.item_span, *self.grouped(values_N, make))
        users, items = DistributedUsers(exchange), DistributedItems(exchange, self, values_N, make, width)
        return GibbsSides(users, items, users.sums, items.sums)

    def random_stream(self, key: int, chain: int, sweep: int) -> gibbs.RandomStream:
        return RowStream(key, chain, sweep, self.device)
