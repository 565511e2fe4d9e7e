"""Both sides of alternating least squares where users with their ratings, and items, are distributed over ranks.

A rank has a span of users with all their ratings, and a span of items' rows without theirs. Users are solved against
all items' rows, which are gathered, whole or in blocks. Items are solved by their owner: from sums that every rank
makes of its own users (hot items), or from copies of the users' rows that it needs (cold ones), whichever sends less.
Shapes: U users and I items of all ranks, R rows of a side here, K width of a table, S of a packed row of sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.communicator import Span
from training.distributed.group import Group
from training.distributed.items import ColdItems, HotItems, is_hot
from training.fit.kernels.als_rows import HalfStep, Rows, packed_width
from training.fit.trainer import MakeRows, TrainingSet

NUMBER = 4  # bytes of a number in a table


class WholeUsers:
    """Users, solved against a copy of all items' rows."""

    def __init__(self, group: Group, items: Span, rows: Rows) -> None:
        self._group, self._items, self._rows = group, items, rows

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        """See `als_rows.Rows`; `step` has the items that are here."""
        items_IK = self._group.gathered(step.other_CK, self._items)
        return self._group.sum(self._rows.solve(step.against(items_IK), out_RK).double())


class BlockUsers:
    """Users, solved in batches against items that come in blocks: for each batch all items go round once.

    A block is the same part of every rank's span. Sums of a batch and a block are within what the group allows.
    """

    def __init__(self, group: Group, data: TrainingSet, values_N: Tensor, make: MakeRows[Rows], width: int) -> None:
        self._group = group
        span = data.item_span
        self._longest = span.longest
        self._part = max(1, group.item_bytes // (NUMBER * width * group.size))
        self._batch = max(1, group.item_bytes // (NUMBER * packed_width(width)))
        batches, blocks = -(-data.user_span.longest // self._batch), -(-self._longest // self._part)
        items_I = torch.arange(data.items, device=data.device)
        place_I, owner_I = items_I % self._longest, items_I // self._longest
        column_I = (owner_I * self._part + place_I % self._part).int()
        items_N = data.items_N.long()
        users_N = data.users_N.long()
        cell_N = (users_N // self._batch * blocks) + (place_I // self._part)[items_N]
        order_N = cell_N.argsort(stable=True)
        parts = order_N.split(torch.bincount(cell_N, minlength=batches * blocks).tolist())
        rows = [
            make(
                (users_N[part] % self._batch).int(),
                column_I[items_N[part]],
                values_N[part],
                self._users_of(data.users, cell // blocks),
                self._part * group.size,
            )
            for cell, part in enumerate(parts)
        ]
        self._cells = [rows[batch * blocks : (batch + 1) * blocks] for batch in range(batches)]

    def _users_of(self, users: int, batch: int) -> int:
        return max(0, min(users - batch * self._batch, self._batch))

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        """See `als_rows.Rows`; `step` has the items that are here."""
        error = torch.zeros((), dtype=torch.float64, device=out_RK.device)
        for batch, cells in enumerate(self._cells):
            here = slice(batch * self._batch, (batch + 1) * self._batch)
            out_BK = out_RK[here]
            sums_BS = out_BK.new_zeros(len(out_BK), packed_width(out_RK.shape[1]))
            for block, rows in enumerate(cells):
                part_CK = out_RK.new_zeros(self._part, out_RK.shape[1])
                mine_CK = step.other_CK[block * self._part : (block + 1) * self._part]
                part_CK[: len(mine_CK)] = mine_CK
                block_CK = self._group.stacked(part_CK).flatten(0, 1)
                sums_BS += rows.sums(step.against(block_CK))
            error += cells[0].solve_sums(sums_BS, step.of(here), out_BK)
        return self._group.sum(error)


class Items:
    """Items, each solved by the rank that has it."""

    def __init__(self, group: Group, data: TrainingSet, values_N: Tensor, make: MakeRows[Rows], width: int) -> None:
        self._group = group
        hot_I = is_hot(data.item_totals(), group, packed_width(width), width)
        self._hot = HotItems(group, data, hot_I, packed_width(width))
        self._hot_rows = [
            make(rows_N, data.users_N[part], values_N[part], self._hot.rows, data.users)
            for rows_N, part in self._hot.chunks
        ]
        self._cold = ColdItems(group, data, hot_I, values_N)
        cold = self._cold.ratings
        self._cold_rows = make(cold.rows_N, cold.columns_N, cold.values_N, cold.rows, cold.columns)

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        """See `als_rows.Rows`; `step` has the users that are here."""
        error = torch.zeros((), dtype=torch.float64, device=out_RK.device)
        for number, rows in enumerate(self._hot_rows):
            mine_R, sums_RS = self._hot.reduced(number, rows.sums(step))
            solved_RK = out_RK.new_empty(len(mine_R), out_RK.shape[1])
            error += rows.solve_sums(sums_RS, step.of(mine_R), solved_RK)
            out_RK[mine_R] = solved_RK
        mine_R, users_CK = self._cold.mine_R, self._cold.columns(step.other_CK)
        solved_RK = out_RK.new_empty(len(mine_R), out_RK.shape[1])
        error += self._cold_rows.solve(step.of(mine_R).against(users_CK), solved_RK)
        out_RK[mine_R] = solved_RK
        return self._group.sum(error)
