"""Scores and items as one number each, so that devices can merge and select lists in the order of lists."""

from __future__ import annotations

import torch
from torch import Tensor

NOTHING = -1  # fills a list that has fewer than N candidates
EMPTY = torch.iinfo(torch.int64).min
LOW_BITS = 0xFFFFFFFF


def keys_of(scores: Tensor, items: Tensor) -> Tensor:
    """Numbers that stand in the order of lists, int64: the bits of the score (float32), then those of the item's row.

    No two items have the same key, and none has `EMPTY`, which is below all.
    """
    return (_ordered_bits(scores) << 32) | (LOW_BITS - items)


def items_of(keys: Tensor) -> Tensor:
    """The item's row in a key; `NOTHING` for `EMPTY`."""
    return torch.where(keys == EMPTY, NOTHING, LOW_BITS - (keys & LOW_BITS))


def scores_of(keys: Tensor) -> Tensor:
    """The score in a key: `_ordered_bits` backwards."""
    bits = (keys >> 32).to(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).view(torch.float32)


def _ordered_bits(scores: Tensor) -> Tensor:
    """Map float32 to int64 so that integer order is numeric order: negative floats have their magnitude flipped."""
    bits = (scores + 0.0).view(torch.int32)  # adding zero turns −0.0 into 0.0: they compare equal, so must their bits
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
