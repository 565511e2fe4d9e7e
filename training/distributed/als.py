"""Both sides of alternating least squares where users with their ratings, and items, are distributed over ranks.

A rank has a span of users with all their ratings, and a span of items' rows without theirs. Users are solved against
all items' rows, which are gathered, whole or in blocks; items by their owner, as `training.distributed.items` says.
Shapes: N ratings here, R rows of a side here, K width of a table, S of a packed row of sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.communicator import Span
from training.distributed.group import Group, positions
from training.distributed.items import divided
from training.fit.kernels.als_rows import HalfStep, Rows, packed_width
from training.fit.kernels.grouping import Triplets
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
        self._group, longest = group, data.item_span.longest
        self._part = max(1, group.item_bytes // (NUMBER * width * group.size))
        self._batch = max(1, group.item_bytes // (NUMBER * packed_width(width)))
        batches, blocks = -(-data.user_span.longest // self._batch), -(-longest // self._part)
        users_N, owner_N, place_N = data.users_N.long(), data.items_N.long() // longest, data.items_N.long() % longest
        column_N = (owner_N * self._part + place_N % self._part).int()
        cells = positions(users_N // self._batch * blocks + place_N // self._part, batches * blocks)
        row_N = (users_N % self._batch).int()
        self._cells: list[list[Rows]] = [[] for _ in range(batches)]
        for cell, part in enumerate(cells):
            batch = cell // blocks
            users = len(range(data.users)[batch * self._batch :][: self._batch])
            ratings = Triplets(row_N[part], column_N[part], values_N[part], users, self._part * group.size)
            self._cells[batch].append(make(ratings))

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
                sums_BS += rows.sums(step.against(self._group.stacked(part_CK).flatten(0, 1)))
            error += cells[0].solve_sums(sums_BS, step.of(here), out_BK)
        return self._group.sum(error)


class Items:
    """Items, each solved by the rank that has it."""

    def __init__(self, group: Group, data: TrainingSet, values_N: Tensor, make: MakeRows[Rows], width: int) -> None:
        self._group = group
        self._hot, self._cold = divided(group, data, values_N, make, sums=packed_width(width), width=width)

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        """See `als_rows.Rows`; `step` has the users that are here."""
        error = torch.zeros((), dtype=torch.float64, device=out_RK.device)
        for number, rows in enumerate(self._hot.chunks):
            mine_R, sums_RS = self._hot.reduced(number, rows.sums(step))
            solved_RK = out_RK.new_empty(len(mine_R), out_RK.shape[1])
            error += rows.solve_sums(sums_RS, step.of(mine_R), solved_RK)
            out_RK[mine_R] = solved_RK
        mine_R, users_CK = self._cold.mine_R, self._cold.columns(step.other_CK)
        solved_RK = out_RK.new_empty(len(mine_R), out_RK.shape[1])
        error += self._cold.rows.solve(step.of(mine_R).against(users_CK), solved_RK)
        out_RK[mine_R] = solved_RK
        return self._group.sum(error)
