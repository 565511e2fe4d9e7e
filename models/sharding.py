"""Items spread over devices: each holds a range of them and finds its own best, and the lists are merged exactly.

It knows orderings and devices, not users or lists (`docs/adr/0022-items-spread-over-devices.md`). With one
device there is one shard, which is the ordering itself. Shapes: I items, B users of a batch, N list length, M pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from models.block_search import EMPTY, items_of, keys_of, scores_of
from models.devices import CPU
from models.scoring import BilinearForm, Floats, Rows, Side, SideRows, dot, given_rows, norms, scores_on_device
from models.search import by_turns, search, top_items

TINY = torch.finfo(torch.float32).tiny
Excluded = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Shard:
    """An ordering of a range of items, whose rows begin at 0 in it.

    After its last item comes one more row: an item of the next shard, or in the last shard the row for unknown items.
    """

    begin: int  # the row of its first item among all
    ordering: BilinearForm

    @property
    def end(self) -> int:
        return self.begin + self.ordering.item_count


@dataclass(frozen=True, eq=False)
class Sharded:
    """A `BilinearForm` whose items lie in shards, one range after another, each on a device of its own.

    Scores and lists have the bits that one device of the kind would give them.
    """

    shards: tuple[Shard, ...]  # one or several
    users: Side | None = None  # the users' tables, in the host's memory; None if the only shard has them

    @classmethod
    def whole(cls, ordering: BilinearForm) -> Sharded:
        """All items on the device that they are on."""
        return cls((Shard(0, ordering),))

    @property
    def only(self) -> BilinearForm:
        """The ordering itself, if there is one shard."""
        (shard,) = self.shards
        return shard.ordering

    @property
    def device(self) -> torch.device:
        """The device of row numbers and scores: the host's, or that of the only shard."""
        return self.only.device if self.users is None else CPU

    @property
    def items(self) -> int:
        """I, the number of known items."""
        return self.shards[-1].end

    @property
    def cells(self) -> int:
        """Numbers in the items' factors."""
        return sum(shard.ordering.item_factors.numel() for shard in self.shards)

    def of_user(self, user: SideRows) -> Sharded:
        """The same ordering for one given row of a user, which is user 0."""
        if self.users is None:
            return Sharded.whole(self.only.of_user(user))
        return replace(self, users=self.users.given(user))

    def exact(self, users_M: Tensor, items_M: Tensor) -> Tensor:
        """`BilinearForm.exact` of each pair, the unknown item included. Rows and scores are on `device`."""
        if self.users is None:
            return self.only.exact(users_M, items_M)
        homes_M = torch.bucketize(items_M, self._begins, right=True)
        found = []
        for number, shard in enumerate(self.shards):
            at_K = (homes_M == number).nonzero()[:, 0]
            if len(at_K):
                ordering = shard.ordering.of_users(self.users.take(users_M[at_K]))
                items_K = (items_M[at_K] - shard.begin).to(ordering.device)
                found.append((at_K, ordering.exact(torch.arange(len(at_K), device=ordering.device), items_K)))
        scores_M = torch.empty(len(items_M))
        for at_K, scores_K in found:  # now all devices have work
            scores_M[at_K] = scores_K.cpu()
        return scores_M

    def pair_within(self, low: np.float32, high: np.float32) -> Callable[[int, int], float]:
        """`BilinearForm.pair_within`."""
        if self.users is None:
            return self.only.pair_within(low, high)
        return lambda user, item: float(self.scores(user, np.array([item])).clip(low, high)[0])

    def scores(self, users: int | Rows, items_N: Rows) -> Floats:
        """`BilinearForm.scores`."""
        return self.only.scores(users, items_N) if self.users is None else scores_on_device(self, users, items_N)

    def scores_of(self, users: SideRows, items_N: Rows) -> Floats:
        """`BilinearForm.scores_of`."""
        if self.users is None:
            return self.only.scores_of(users, items_N)
        return scores_on_device(self.of_user(users), given_rows(users), items_N)

    def top_items(
        self, users_B: Tensor, n: int, *, excluded: Excluded | None = None, allowed: Sequence[Tensor] | None = None
    ) -> Tensor:
        """`search.top_items`, in the host's memory. `allowed` is a mask that has been `cut`."""
        if self.users is None:
            allowed_I = None if allowed is None else allowed[0]
            return top_items(self.only, users_B, n, excluded=excluded, allowed_I=allowed_I).cpu()
        taken, rows_B = self.users.take(users_B), torch.arange(len(users_B))
        searches = [
            search(
                shard.ordering.of_users(taken),
                rows_B,
                n,
                None if excluded is None else _within(shard, *excluded),
                None if allowed is None else allowed[number],
            )
            for number, shard in enumerate(self.shards)
        ]
        return items_of(self.merge(by_turns(searches), n))

    def top_among(self, user: int, rows_C: Tensor, n: int) -> Tensor:
        """The n best of the given distinct item rows for one user, in the same order, int64 (min(n, C),)."""
        rows_C = rows_C.to(self.device, torch.int64).sort().values
        scores_C = self.exact(torch.full_like(rows_C, user), rows_C)
        return rows_C[scores_C.argsort(descending=True, stable=True)[:n]]

    def merge(self, keys: Sequence[Tensor], n: int) -> Tensor:
        """The n largest of the keys that each shard found of each user, in the host's memory, int64 (B, n).

        The keys of a shard (B, …) are of its own rows; the merged ones are of rows among all items. Each shard sends
        8 bytes for each item of its lists.
        """
        if len(keys) == 1:
            return keys[0].cpu()
        parts = zip(self.shards, [keys_BN.cpu() for keys_BN in keys], strict=True)
        moved = [torch.where(keys_BN == EMPTY, EMPTY, keys_BN - shard.begin) for shard, keys_BN in parts]
        return torch.cat(moved, dim=1).topk(n, dim=1).values

    def factors(self, rows_N: Rows) -> Floats:
        """The items' factors of some known rows, in the host's memory, float32 (N, G)."""
        found_NG = np.empty((len(rows_N), self.shards[0].ordering.item_factors.shape[1]), np.float32)
        for shard in self.shards:
            at_K = np.flatnonzero((rows_N >= shard.begin) & (rows_N < shard.end))
            rows_K = torch.from_numpy(rows_N[at_K] - shard.begin).to(shard.ordering.device)
            found_NG[at_K] = shard.ordering.item_factors[rows_K].cpu().numpy()
        return found_NG

    def cut(self, mask_I: Tensor) -> tuple[Tensor, ...]:
        """The part of a mask of items, bool (I,), for each shard, on its device."""
        return tuple(mask_I[shard.begin : shard.end].to(shard.ordering.device) for shard in self.shards)

    def similar_items(self, item: int, n: int) -> tuple[Tensor, Tensor]:
        """The n other items whose factors have the largest cosine with those of an item.

        Rows, int64, and cosines, float32, both (min(n, I − 1),), by falling cosine, equal ones by row.
        """
        n = min(n, self.items - 1)
        home = next(shard for shard in self.shards if item < shard.end)
        y_G = home.ordering.item_factors[item - home.begin]
        norm, keys = norms(y_G[None]), []
        for shard, norm_I in zip(self.shards, self._norms, strict=True):
            cosine_I = dot(y_G.to(norm_I.device), shard.ordering.item_factors[:-1])
            cosine_I /= (norm_I * norm.to(norm_I.device)).clamp_(min=TINY)
            keys.append(_best(cosine_I.clamp_(max=1.0), n + 1)[None])
        (keys_M,) = self.merge(keys, n + 1)
        keys_N = keys_M[items_of(keys_M) != item][:n]
        return items_of(keys_N), scores_of(keys_N)

    @cached_property
    def _norms(self) -> list[Tensor]:
        """Of the known items of each shard."""
        return [norms(shard.ordering.item_factors[:-1]) for shard in self.shards]

    @cached_property
    def _begins(self) -> Tensor:
        """Of all shards but the first."""
        return torch.tensor([shard.begin for shard in self.shards[1:]], dtype=torch.int64)


def _best(cosine_I: Tensor, n: int) -> Tensor:
    """Keys of the n best of a shard in falling order, `EMPTY` where there are fewer."""
    lowest = cosine_I.topk(min(n, len(cosine_I))).values[-1:]
    rows_K = (cosine_I >= lowest).nonzero()[:, 0]
    keys_K = keys_of(cosine_I[rows_K], rows_K)
    return torch.cat([keys_K, keys_K.new_full((n,), EMPTY)]).topk(n).values


def _within(shard: Shard, offsets: Tensor, items_M: Tensor) -> Excluded:
    """The excluded items that are in one shard, by their rows in it."""
    held_M = (items_M >= shard.begin) & (items_M < shard.end)
    held_before = torch.cat([offsets.new_zeros(1), held_M.cumsum(0)])
    return held_before[offsets], items_M[held_M] - shard.begin


def spread(named: Mapping[str, BilinearForm], devices: Sequence[torch.device] = ()) -> dict[str, Sharded]:
    """Spread orderings of the same items over devices, in ranges of equal length; without devices they are not moved.

    Tables that orderings share are put on the devices once. On the CPU ranges are parts of the tables, not copies.
    """
    if not devices:
        return {name: Sharded.whole(ordering) for name, ordering in named.items()}

    @cache
    def pieces(table: Tensor) -> list[Tensor]:
        if table.dim() == 0:
            return [table.to(device) for device in devices]
        bounds = [(len(table) - 1) * number // len(devices) for number in range(len(devices) + 1)]
        return [
            table[begin : end + 1].to(device) for (begin, end), device in zip(pairwise(bounds), devices, strict=True)
        ]

    return {name: _sharded(ordering, pieces) for name, ordering in named.items()}


def _sharded(ordering: BilinearForm, pieces: Callable[[Tensor], Sequence[Tensor]]) -> Sharded:
    items, factors = ordering.items, pieces(ordering.item_factors)
    absent = (None,) * len(factors)
    tables = [absent if table is None else pieces(table) for table in (items.bias, items.variance, ordering.mean)]
    shards, begin = [], 0
    for part_IG, bias, variance, mean in zip(factors, *tables, strict=True):
        shard = Shard(begin, BilinearForm(Side(None), Side(part_IG, bias, variance), mean))
        shards.append(shard)
        begin = shard.end
    return Sharded(tuple(shards), ordering.users.to(CPU))
