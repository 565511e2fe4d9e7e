"""Which items are like another one: by the cosine of their factors, exactly and in one order, as lists are.

It knows tables and row numbers. Shapes: I items, G factors, N list length.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from models.list_keys import EMPTY, items_of, keys_of, scores_of
from models.scoring import dot, norms
from models.sharding import Sharded

TINY = torch.finfo(torch.float32).tiny


class Nearest:
    """Finds the items whose factors point the most nearly in the same direction.

    Args:
        ordering: whose factors are meant.
    """

    def __init__(self, ordering: Sharded) -> None:
        self._ordering = ordering

    def to(self, item: int, n: int) -> tuple[Tensor, Tensor]:
        """The n other items that are nearest: rows, int64, and cosines, float32, both (min(n, I − 1),).

        By falling cosine, equal ones by row.
        """
        n = min(n, self._ordering.items - 1)
        y_G = self._ordering.item_row(item)
        norm = norms(y_G[None])
        cosines = [
            dot(y_G.to(table_IG.device), table_IG).div_((norm_I * norm.to(norm_I.device)).clamp_(min=TINY))
            for table_IG, norm_I in self._tables
        ]
        keys = [_best(cosine_I.clamp_(max=1.0), n + 1)[None] for cosine_I in cosines]
        (keys_M,) = self._ordering.merge(keys, n + 1)
        keys_N = keys_M[items_of(keys_M) != item][:n]
        return items_of(keys_N), scores_of(keys_N)

    @cached_property
    def _tables(self) -> list[tuple[Tensor, Tensor]]:
        """The known items of each shard and their norms."""
        tables = [shard.ordering.item_factors[:-1] for shard in self._ordering.shards]
        return [(table_IG, norms(table_IG)) for table_IG in tables]


def _best(cosine_I: Tensor, n: int) -> Tensor:
    """Keys of the n best of a shard in falling order, `EMPTY` where there are fewer."""
    lowest = cosine_I.topk(min(n, len(cosine_I))).values[-1:]
    rows_K = (cosine_I >= lowest).nonzero()[:, 0]
    keys_K = keys_of(cosine_I[rows_K], rows_K)
    return torch.cat([keys_K, keys_K.new_full((n,), EMPTY)]).topk(n).values
