"""Exact top-N selection. It knows scores and which cells are excluded, not what the scores mean.

Shapes: B users in a batch, I items, N list length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.seen import SeenItems

NOTHING = -1  # fills a list that has fewer than N candidates


def top_n(scores_BI: Tensor, n: int) -> Tensor:
    """Item indices of the n best scores of each row, best first, shape (B, min(n, I)), int64.

    Equal scores are ordered by item index, on every device. Cells of −inf are excluded: a row with fewer candidates
    than n is filled with `NOTHING`. Scores are float32 and hold no NaN.
    """
    items = scores_BI.shape[1]
    descending_index_I = torch.arange(items - 1, -1, -1, device=scores_BI.device)
    keys_BI = (_ordered_bits(scores_BI) << 32) | descending_index_I
    keys_BN = keys_BI.topk(min(n, items), dim=1).values
    excluded_BN = (keys_BN >> 32) == _ordered_bits(scores_BI.new_tensor(-torch.inf))
    return (items - 1 - (keys_BN & 0xFFFFFFFF)).masked_fill(excluded_BN, NOTHING)


def top_unseen(scores_BI: Tensor, seen: SeenItems, users_B: Tensor, n: int) -> Tensor:
    """As `top_n`, leaving out what each user has rated in training. Overwrites those cells of `scores_BI`."""
    scores_BI[seen.cells(users_B)] = -torch.inf
    return top_n(scores_BI, n)


def _ordered_bits(scores: Tensor) -> Tensor:
    """Map float32 to int64 so that integer order is numeric order: negative floats have their magnitude flipped."""
    bits = (scores + 0.0).view(torch.int32)  # adding zero turns −0.0 into 0.0: they compare equal, so must their bits
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
