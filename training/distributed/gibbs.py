"""Both sides of the Gibbs sampler where users with their ratings, and items, are distributed over ranks.

As in `training.distributed.als` a row is drawn by the rank that has it. Sums over a user's items come from a copy of
all items' rows, sums over an item's users are made by every rank for its users and added by the item's owner.
Shapes: U users here, I items of all ranks, R rows of a side here, C of the other side here, K table width, N ratings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from training.communicator import BLOCK, LocalRows, Span
from training.distributed.group import Group
from training.distributed.items import divided
from training.fit.kernels.gibbs import EffectState, RandomStream, Rows
from training.fit.kernels.gibbs_torch import draw_effects
from training.fit.kernels.grouping import Triplets
from training.fit.trainer import MakeRows, TrainingSet


class Exchange:
    """What goes between users and items on other ranks, given the ratings here by user and, of all items, by item."""

    def __init__(self, group: Group, items: Span, by_user: Rows, by_item: Rows) -> None:
        self.group, self._items = group, items
        self.by_user, self.by_item = by_user, by_item

    def all_items(self, rows_RK: Tensor) -> Tensor:
        """All items' rows, given those here."""
        return self.group.gathered(rows_RK, self._items)

    def added(self, sums_IK: Tensor) -> Tensor:
        """The rows of the items here of the sum over all ranks, added in their order."""
        longest = self._items.longest
        padded = sums_IK.new_zeros(longest * self.group.size, sums_IK.shape[1])
        padded[: len(sums_IK)] = sums_IK
        return self.group.swapped(padded.view(self.group.size, longest, -1)).sum(0)[: len(self._items)]

    def over_items(self, table_RK: Tensor) -> Tensor:
        """For each user here the sum over its items, given the items' rows here."""
        return self.by_user.sums(self.all_items(table_RK))

    def over_users(self, table_UK: Tensor) -> Tensor:
        """For each item here the sum over its users, given the users' rows here."""
        return self.added(self.by_item.sums(table_UK))


class DistributedUsers:
    """Users (implements `gibbs.Rows`)."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._rows = exchange, exchange.by_user
        self.draw, self.sums = self._rows.draw, exchange.over_items

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        return self._rows.gram(*self._all_items(other_CK, weight_C))

    def draw_effects(self, state: EffectState, noise: Iterator[Tensor]) -> None:
        exchange = self._exchange
        draw_effects(exchange.over_users, exchange.over_items, state, noise, exchange.group.sum)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        return self._rows.errors(own_RK, *self._all_items(other_CK, weight_C))

    def _all_items(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        return _parted(self._exchange.all_items(_joined(other_CK, weight_C)))


class DistributedItems:
    """Items (implements `gibbs.Rows`)."""

    def __init__(
        self, exchange: Exchange, data: TrainingSet, values_N: Tensor, make: MakeRows[Rows], width: int
    ) -> None:
        self._exchange = exchange
        sums = width * (width + 1) // 2 + width
        self._hot, self._cold = divided(exchange.group, data, values_N, make, sums=sums, width=width + 1)
        none = (data.items_N[:0], data.users_N[:0], values_N[:0])
        self.draw = make(Triplets(*none, len(data.item_span), 1)).draw
        self.sums = exchange.over_users

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        width = other_CK.shape[1]
        rows = len(self._cold.mine_R) + sum(len(mine_R) for mine_R in self._hot.mine)
        gram_RKK, rhs_RK = other_CK.new_empty(rows, width, width), other_CK.new_empty(rows, width)
        i, j = torch.triu_indices(width, width, device=other_CK.device)
        for number, hot in enumerate(self._hot.chunks):
            part_RKK, part_RK = hot.gram(other_CK, weight_C)
            mine_R, sums_RS = self._hot.reduced(number, torch.cat([part_RKK[:, i, j], part_RK], dim=1))
            whole_RKK = other_CK.new_empty(len(mine_R), width, width)
            whole_RKK[:, i, j] = whole_RKK[:, j, i] = sums_RS[:, :-width]
            gram_RKK[mine_R], rhs_RK[mine_R] = whole_RKK, sums_RS[:, -width:]
        cold = self._cold.rows.gram(*_parted(self._cold.columns(_joined(other_CK, weight_C))))
        gram_RKK[self._cold.mine_R], rhs_RK[self._cold.mine_R] = cold
        return gram_RKK, rhs_RK

    def draw_effects(self, state: EffectState, noise: Iterator[Tensor]) -> None:
        exchange = self._exchange
        draw_effects(exchange.over_items, exchange.over_users, state, noise, exchange.group.sum)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        return self._exchange.added(self._exchange.by_item.errors(self._exchange.all_items(own_RK), other_CK, weight_C))


def _joined(table_CK: Tensor, weight_C: Tensor) -> Tensor:
    """The rows and their weights as one table, which is sent at once."""
    return torch.cat([table_CK, weight_C[:, None]], dim=1)


def _parted(joined: Tensor) -> tuple[Tensor, Tensor]:
    return joined[:, :-1].contiguous(), joined[:, -1].contiguous()


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
