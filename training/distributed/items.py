"""How an item's owner gets what its row depends on: sums from every rank, or copies of users' rows.

The sums of an item take S numbers from every other rank, copies at most K from a rank for each of its ratings. So an
item is hot, and its sums are sent, where it has more than ranks · S / K ratings. Shapes: U users here, I items, R the
items of this rank, H hot items, K width of a table, S of a row of sums, N ratings.
"""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from training.distributed.group import Group, positions
from training.fit.kernels.grouping import Triplets
from training.fit.trainer import MakeRows, RowsT, TrainingSet

CHUNK_BYTES = 1 << 26  # of sums at a time


def divided(
    group: Group, data: TrainingSet, values_N: Tensor, make: MakeRows[RowsT], *, sums: int, width: int
) -> tuple[HotItems[RowsT], ColdItems[RowsT]]:
    """The items by what is sent for them. A single rank sends nothing, and solves all from its ratings."""
    hot_I = data.item_totals() * width > group.size * sums
    if group.size == 1:
        hot_I = torch.zeros_like(hot_I)
    return HotItems(group, data, hot_I, values_N, make, sums), ColdItems(group, data, hot_I, values_N, make)


class HotItems(Generic[RowsT]):
    """Hot items in chunks: so many of each rank's at a time that their sums are bounded.

    Attributes:
        chunks: the ratings here of each chunk: of as many items of each rank, some empty, the first rank's first.
        mine: which of the items here are in each chunk; the last may be missing.
    """

    def __init__(
        self, group: Group, data: TrainingSet, hot_I: Tensor, values_N: Tensor, make: MakeRows[RowsT], sums: int
    ) -> None:
        self._group = group
        hot_H = hot_I.nonzero()[:, 0]
        owner_H = hot_H // max(1, data.item_span.longest)
        nth_H = torch.arange(len(hot_H), device=hot_H.device) - torch.searchsorted(owner_H, owner_H)
        most = int(nth_H.max()) + 1 if len(hot_H) else 0
        self._part = max(1, min(most, CHUNK_BYTES // (4 * sums * group.size)))
        self.mine = (hot_H[owner_H == group.rank] - data.item_span.start).split(self._part)
        chunks = -(-most // self._part)
        chunk_I, row_I = torch.full_like(hot_I, chunks, dtype=torch.int64), torch.zeros_like(hot_I, dtype=torch.int32)
        chunk_I[hot_H] = nth_H // self._part
        row_I[hot_H] = (owner_H * self._part + nth_H % self._part).int()
        items_N, rows = data.items_N.long(), self._part * group.size
        self.chunks = [
            make(Triplets(row_I[items_N[part]], data.users_N[part], values_N[part], rows, data.users))
            for part in positions(chunk_I[items_N], chunks + 1)[:chunks]
        ]

    def reduced(self, chunk: int, sums_RS: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the items here are in the chunk, and their sums over all ranks, given those of this one.

        They are added in the order of the ranks, so that sums are the same however the parts come.
        """
        mine_B = self.mine[chunk] if chunk < len(self.mine) else self.mine[0][:0]
        parts = self._group.swapped(sums_RS.view(self._group.size, self._part, -1))
        return mine_B, parts.sum(0)[: len(mine_B)]


class ColdItems(Generic[RowsT]):
    """Cold items, whose ratings are sent to their owner once, and their users' rows in every sweep.

    Attributes:
        rows: the ratings of the cold items here, by users of any rank.
        mine_R: which of the items here are cold.
    """

    def __init__(self, group: Group, data: TrainingSet, hot_I: Tensor, values_N: Tensor, make: MakeRows[RowsT]) -> None:
        self._group, span = group, data.item_span
        cold_N = (~hot_I[data.items_N.long()]).nonzero()[:, 0]
        owner_N = data.items_N[cold_N].long() // max(1, span.longest)
        parts = [cold_N[part] for part in positions(owner_N, group.size)]
        wanted = [data.users_N[part].long().unique(return_inverse=True) for part in parts]
        self._wanted = torch.cat([users for users, _ in wanted])
        self._out = [len(users) for users, _ in wanted]
        self._into = group.swapped(torch.tensor(self._out)).tolist()
        items_N = torch.cat(group.exchanged([data.items_N[part] for part in parts])).long() - span.start
        columns = group.exchanged([place.int() for _, place in wanted])
        starts = torch.tensor([0, *self._into]).cumsum(0).int().tolist()
        columns_N = torch.cat([place + start for place, start in zip(columns, starts, strict=False)])
        values_N = torch.cat(group.exchanged([values_N[part] for part in parts]))
        cold_R = ~hot_I[span.rows]
        self.mine_R = cold_R.nonzero()[:, 0]
        rows_N = (cold_R.cumsum(0) - 1).int()[items_N]
        self.rows = make(Triplets(rows_N, columns_N, values_N, len(self.mine_R), sum(self._into)))

    def columns(self, users_UK: Tensor) -> Tensor:
        """The rows of the users that have rated the cold items here, given those of the users here."""
        return self._group.passed(users_UK[self._wanted], self._out, self._into)
