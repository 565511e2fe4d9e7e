"""Which items each user has already rated, as compressed sparse rows. Shapes: U users, N ratings, B batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SeenItems:
    """Training items by user. The row past the last user, which stands for an unknown one, is empty.

    Attributes:
        offsets: where each user's items begin in `items_N`, and where they end for the last two rows; int64, (U+2,).
        items_N: item index of each training rating, grouped by user and ascending within one; int32.
    """

    offsets: Tensor
    items_N: Tensor

    @classmethod
    def from_pairs(cls, users_N: npt.NDArray[np.int32], items_N: npt.NDArray[np.int32], users: int) -> Self:
        """Group distinct (user, item) pairs by user."""
        order = np.lexsort((items_N, users_N))
        offsets = np.zeros(users + 2, dtype=np.int64)
        np.cumsum(np.bincount(users_N, minlength=users + 1), out=offsets[1:])
        return cls(torch.from_numpy(offsets), torch.from_numpy(items_N[order].astype(np.int32)))

    def of(self, user: int) -> Tensor:
        """Items of one user, ascending, int32."""
        return self.items_N[self.offsets[user] : self.offsets[user + 1]]

    def rows(self, users_B: Tensor) -> tuple[Tensor, Tensor]:
        """The items of a batch of users as compressed rows: offsets (B+1,) int64, and item rows (M,) int32."""
        begin_B, end_B = self.offsets[users_B], self.offsets[users_B + 1]
        counts_B = end_B - begin_B
        offsets = torch.cat([counts_B.new_zeros(1), counts_B.cumsum(0)])
        shift_M = (begin_B - offsets[:-1]).repeat_interleave(counts_B)
        return offsets, self.items_N[torch.arange(len(shift_M), device=shift_M.device) + shift_M]

    def counts(self, items: int) -> npt.NDArray[np.int64]:
        """How many training ratings each of the `items` items has."""
        return np.bincount(self.items_N.cpu().numpy(), minlength=items)

    def to(self, device: torch.device) -> SeenItems:
        return SeenItems(self.offsets.to(device), self.items_N.to(device))
