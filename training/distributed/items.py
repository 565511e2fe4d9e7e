"""How an item's owner gets what its row depends on: sums from every rank, or copies of users' rows.

The sums of an item take S numbers from every other rank, copies at most K from a rank for each of its ratings. So an
item is hot, and its sums are sent, where it has more than ranks · S / K ratings. Shapes: U users here, I items, R the
items of this rank, H hot items of the rank that has most, K width of a table, S of a row of sums, N ratings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.distributed.group import Group
from training.fit.trainer import TrainingSet

CHUNK_BYTES = 1 << 26  # of sums at a time


def is_hot(totals_I: Tensor, group: Group, sums: int, width: int) -> Tensor:
    """The items whose sums are sent. A single rank sends nothing, and solves all from its ratings."""
    if group.size == 1:
        return torch.zeros_like(totals_I, dtype=torch.bool)
    return totals_I * width > group.size * sums


class HotItems:
    """Hot items in chunks: so many of each rank's at a time that their sums are bounded.

    Attributes:
        rows: items in a chunk, those of the first rank first; each rank has as many, of which some may be empty.
        mine: which of the items here are in each chunk; the last may be missing.
        chunks: for each chunk, the row in it of each of its ratings (int32), and which ratings these are.
    """

    def __init__(self, group: Group, data: TrainingSet, hot_I: Tensor, sums: int) -> None:
        self._group, block = group, max(1, data.item_span.longest)
        hot_H = hot_I.nonzero()[:, 0]
        owner_H = hot_H // block
        nth_H = torch.arange(len(hot_H), device=hot_H.device) - torch.searchsorted(owner_H, owner_H)
        most = int(nth_H.max()) + 1 if len(hot_H) else 0
        self._part = max(1, min(most, CHUNK_BYTES // (4 * sums * group.size)))
        self.rows = self._part * group.size
        self.mine = (hot_H[owner_H == group.rank] - data.item_span.start).split(self._part) if most else ()
        chunks = -(-most // self._part)
        chunk_I, row_I = torch.full_like(hot_I, chunks, dtype=torch.int64), torch.zeros_like(hot_I, dtype=torch.int64)
        chunk_I[hot_H] = nth_H // self._part
        row_I[hot_H] = owner_H * self._part + nth_H % self._part
        items_N = data.items_N.long()
        order_N = chunk_I[items_N].argsort(stable=True)
        parts = order_N.split(torch.bincount(chunk_I[items_N], minlength=chunks + 1).tolist())[:chunks]
        self.chunks = [(row_I[items_N[part]].int(), part) for part in parts]

    def reduced(self, chunk: int, sums_RS: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the items here are in the chunk, and their sums over all ranks, given those of this one.

        Each rank gets the parts of its items and adds them in the order of the ranks, so that sums are the same
        however they come.
        """
        mine_B = self.mine[chunk] if chunk < len(self.mine) else self._no_rows(sums_RS)
        parts = self._group.swapped(sums_RS.view(self._group.size, self._part, -1))
        return mine_B, parts.sum(0)[: len(mine_B)]

    def _no_rows(self, like: Tensor) -> Tensor:
        return torch.empty(0, dtype=torch.int64, device=like.device)


@dataclass(frozen=True, slots=True)
class ColdRatings:
    """Ratings of the cold items here, by users of any rank.

    Attributes:
        rows, columns: how many cold items are here, and how many users' rows they need.
        rows_N, columns_N: int32.
        values_N: float32.
    """

    rows: int
    columns: int
    rows_N: Tensor
    columns_N: Tensor
    values_N: Tensor


class ColdItems:
    """Cold items, whose ratings are sent to their owner once, and their users' rows in every sweep.

    Attributes:
        ratings: those of the cold items here.
        mine_R: which of the items here are cold.
    """

    def __init__(self, group: Group, data: TrainingSet, hot_I: Tensor, values_N: Tensor) -> None:
        self._group, block = group, max(1, data.item_span.longest)
        cold_N = (~hot_I[data.items_N.long()]).nonzero()[:, 0]
        owner_N = data.items_N[cold_N].long() // block
        order_N = owner_N.argsort(stable=True)
        parts = cold_N[order_N].split(torch.bincount(owner_N, minlength=group.size).tolist())
        wanted = [data.users_N[part].long().unique(return_inverse=True) for part in parts]
        self._wanted = [users for users, _ in wanted]
        counts = group.swapped(torch.tensor([len(users) for users in self._wanted], device=hot_I.device)).tolist()
        self._counts = [int(count) for count in counts]
        rows = group.exchanged([data.items_N[part].int() for part in parts])
        columns = group.exchanged([place.int() for _, place in wanted])
        values = group.exchanged([values_N[part] for part in parts])
        starts = torch.tensor([0, *self._counts]).cumsum(0)[:-1].tolist()
        self.mine_R = (~hot_I[data.item_span.rows]).nonzero()[:, 0]
        number_R = torch.zeros(len(data.item_span), dtype=torch.int32, device=hot_I.device)
        number_R[self.mine_R] = torch.arange(len(self.mine_R), dtype=torch.int32, device=hot_I.device)
        self.ratings = ColdRatings(
            len(self.mine_R),
            sum(self._counts),
            number_R[torch.cat(rows).long() - data.item_span.start],
            torch.cat([place + start for place, start in zip(columns, starts, strict=True)]).int(),
            torch.cat(values),
        )

    def columns(self, users_UK: Tensor) -> Tensor:
        """The rows of the users that have rated the cold items here, given those of the users here."""
        rows = torch.cat([users_UK[users] for users in self._wanted])
        return torch.cat(self._group.passed(rows, [len(users) for users in self._wanted], self._counts))
