"""Both sides of the Gibbs sampler where users with their ratings, and items, are distributed over ranks.

As in `training.distributed.als` a row is drawn by the rank that has it. Sums over a user's items come from a copy of
all items' rows, sums over an item's users are made by every rank for its users and added by the item's owner. The
effects of a side are drawn jointly, by conjugate gradients: one after the other they would wait for all ranks.
Shapes: U users here, I items of all ranks, R rows of a side here, C of the other side here, K table width, N ratings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.communicator import Span
from training.distributed.group import Group
from training.distributed.items import ColdItems, HotItems, is_hot
from training.fit.kernels.effects_torch import EffectSums, draw_effects
from training.fit.kernels.gibbs_rows import EffectState, Normal, Rows, RowState
from training.fit.trainer import MakeRows, TrainingSet


class Exchange:
    """What goes between users and items that are on other ranks.

    Attributes:
        by_user, by_item: the ratings here, of the users here and of all items.
    """

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
    """Users (implements `gibbs_rows.Rows`)."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._rows = exchange, exchange.by_user

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        return self._rows.gram(*self._all_items(other_CK, weight_C))

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        return self._rows.draw(state, noise_RK)

    def draw_effects(self, state: EffectState, normal: Normal) -> None:
        sums = EffectSums(self._exchange.over_users, self._exchange.over_items, self._exchange.group.sum)
        draw_effects(sums, state, normal)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        return self._rows.errors(own_RK, *self._all_items(other_CK, weight_C))

    def sums(self, table_CK: Tensor) -> Tensor:
        """For each row the sum over its columns."""
        return self._exchange.over_items(table_CK)

    def _all_items(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        both = self._exchange.all_items(torch.cat([other_CK, weight_C[:, None]], dim=1))
        return both[:, :-1].contiguous(), both[:, -1].contiguous()


class DistributedItems:
    """Items (implements `gibbs_rows.Rows`)."""

    def __init__(
        self, exchange: Exchange, data: TrainingSet, values_N: Tensor, make: MakeRows[Rows], width: int
    ) -> None:
        self._exchange, group = exchange, exchange.group
        sums = width * (width + 1) // 2 + width
        hot_I = is_hot(data.item_totals(), group, sums, width + 1)
        self._hot = HotItems(group, data, hot_I, sums)
        self._hot_rows = [
            make(rows_N, data.users_N[part], values_N[part], self._hot.rows, data.users)
            for rows_N, part in self._hot.chunks
        ]
        self._cold = ColdItems(group, data, hot_I, values_N)
        cold = self._cold.ratings
        self._cold_rows = make(cold.rows_N, cold.columns_N, cold.values_N, cold.rows, cold.columns)
        none = slice(0, 0)
        self._drawn = make(data.items_N[none], data.users_N[none], values_N[none], len(data.item_span), 1)

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        width = other_CK.shape[1]
        rows = len(self._cold.mine_R) + sum(len(mine_R) for mine_R in self._hot.mine)
        gram_RKK, rhs_RK = other_CK.new_empty(rows, width, width), other_CK.new_empty(rows, width)
        upper = torch.triu_indices(width, width, device=other_CK.device)
        for number, hot in enumerate(self._hot_rows):
            part_RKK, part_RK = hot.gram(other_CK, weight_C)
            packed = torch.cat([part_RKK[:, upper[0], upper[1]], part_RK], dim=1)
            mine_R, sums_RS = self._hot.reduced(number, packed)
            whole_RKK = other_CK.new_empty(len(mine_R), width, width)
            whole_RKK[:, upper[0], upper[1]] = whole_RKK[:, upper[1], upper[0]] = sums_RS[:, :-width]
            gram_RKK[mine_R], rhs_RK[mine_R] = whole_RKK, sums_RS[:, -width:]
        both = self._cold.columns(torch.cat([other_CK, weight_C[:, None]], dim=1))
        cold = self._cold_rows.gram(both[:, :-1].contiguous(), both[:, -1].contiguous())
        gram_RKK[self._cold.mine_R], rhs_RK[self._cold.mine_R] = cold
        return gram_RKK, rhs_RK

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        return self._drawn.draw(state, noise_RK)

    def draw_effects(self, state: EffectState, normal: Normal) -> None:
        sums = EffectSums(self._exchange.over_items, self._exchange.over_users, self._exchange.group.sum)
        draw_effects(sums, state, normal)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        return self._exchange.added(self._exchange.by_item.errors(self._exchange.all_items(own_RK), other_CK, weight_C))

    def sums(self, table_CK: Tensor) -> Tensor:
        """For each row the sum over its columns."""
        return self._exchange.over_users(table_CK)
