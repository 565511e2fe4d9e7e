"""The lists of the users in a test part: how many hits they have, and how varied they are.

It knows an order of items, not what orders them. Shapes: B users, I items, K list length, L lists, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.scoring import BilinearForm
from models.search import top_items
from models.training_ratings import TrainingRatings
from training import metrics
from training.communicator import SINGLE_PROCESS, Communicator

LENGTH = 10
USERS_PER_BATCH = 512
DIMENSIONS = 256  # of the projection: a mean cosine has a standard error of 9 % of itself at most, and models share it
USERS_AT_ONCE = 1 << 14
RATINGS_AT_ONCE = 1 << 18


class Relevant(NamedTuple):
    """The relevant test items of some users with at least one: user and item of each pair, int64."""

    users_M: Tensor
    items_M: Tensor


class Hits(NamedTuple):
    """Means over users; None without users."""

    ndcg: float | None
    recall: float | None


def top_lists(ordering: BilinearForm, users_L: Tensor, seen: TrainingRatings) -> Tensor:
    """The items that would be listed, (L, K): the best of those without a training rating by the user.

    Where too few items are left, −1 fills the list.
    """
    lists = [top_items(ordering, users_B, LENGTH, excluded=seen.rows(users_B)) for users_B in _batches(users_L)]
    return torch.cat(lists) if lists else torch.empty(0, LENGTH, dtype=torch.int64, device=users_L.device)


def hits(top_LK: Tensor, relevant: Relevant, items: int, communicator: Communicator = SINGLE_PROCESS) -> Hits:
    """NDCG and recall of the lists of the users of `relevant`, in ascending order of the users."""
    users_L, counts_L = relevant.users_M.unique(return_counts=True)
    pairs_M = relevant.users_M * (items + 1) + relevant.items_M
    hits_LK = torch.isin(users_L[:, None] * (items + 1) + top_LK, pairs_M) & (top_LK >= 0)
    return Hits(
        _pooled(metrics.ndcg(hits_LK, counts_L), communicator), _pooled(metrics.recall(hits_LK, counts_L), communicator)
    )


def variety(
    top_LK: Tensor, seen: TrainingRatings, items: int, communicator: Communicator = SINGLE_PROCESS
) -> dict[str, float | None]:
    """`catalogue10`, `novelty10` and `diversity10` of the lists; None without lists.

    Novelty is the mean self-information of a listed item (Zhou, Kuscsik, Liu, Medo, Wakeling and Zhang 2010), one
    without ratings counting as one with a single one. Diversity is the mean over pairs of a list of 1 − the cosine of
    the items' vectors of 0 and 1 that tell who rated them (Ziegler, McNee, Konstan and Lausen 2005, with this
    likeness), estimated by a random projection (Achlioptas 2003).
    """
    if communicator.total(len(top_LK)) == 0:
        return dict.fromkeys(("catalogue10", "novelty10", "diversity10"))
    listed_N = top_LK[top_LK >= 0]
    shown_I = communicator.sum(torch.zeros(items, device=top_LK.device).index_fill_(0, listed_N, 1))
    counts_I = communicator.sum(torch.bincount(seen.items_N.to(top_LK.device).long(), minlength=items))
    users = communicator.total(len(seen.offsets) - 2)
    novelty_I = -(counts_I.clamp(min=1).double() / users).log2()
    directions_ID = torch.nn.functional.normalize(_projected(seen, items, communicator))
    distances = [_distances(top_BK, directions_ID) for top_BK in top_LK.split(USERS_PER_BATCH)]
    distance_P = torch.cat(distances) if distances else directions_ID.new_empty(0)
    return {
        "catalogue10": float((shown_I > 0).double().mean()),
        "novelty10": _pooled(novelty_I[listed_N], communicator),
        "diversity10": _pooled(distance_P, communicator),
    }


def _pooled(values_N: Tensor, communicator: Communicator) -> float | None:
    """The mean of the numbers of all ranks."""
    if communicator.total(len(values_N)) == 0:
        return None
    return communicator.pooled(float(values_N.double().mean()) if len(values_N) else 0.0, len(values_N))


def _batches(users_L: Tensor) -> Iterator[Tensor]:
    return (users_B for users_B in users_L.split(USERS_PER_BATCH) if len(users_B))


def _distances(top_BK: Tensor, directions_ID: Tensor) -> Tensor:
    """The mean distance of the pairs of each list of at least two items."""
    present_BK = top_BK >= 0
    rows_BKD = directions_ID[top_BK.clamp(min=0)] * present_BK[..., None]
    cosines_BKK = rows_BKD @ rows_BKD.mT
    counts_B = present_BK.sum(1)
    pairs_B = counts_B * (counts_B - 1)
    of_pairs_B = cosines_BKK.sum((1, 2)) - cosines_BKK.diagonal(0, 1, 2).sum(1)
    several_B = counts_B > 1
    return 1 - of_pairs_B[several_B] / pairs_B[several_B]


def _projected(seen: TrainingRatings, items: int, communicator: Communicator) -> Tensor:
    """Each item's vector of who rated it, times random signs, one for each user and dimension: (I, D).

    A user has the same signs however the users are spread over ranks.
    """
    device, users = seen.offsets.device, len(seen.offsets) - 2
    projected_ID = torch.zeros(items, DIMENSIONS, device=device)
    of_ranks = torch.zeros(communicator.size, dtype=torch.int64)
    of_ranks[communicator.rank] = users
    earlier = int(communicator.sum(of_ranks)[: communicator.rank].sum())
    for first in range(0, users, USERS_AT_ONCE):
        last = min(first + USERS_AT_ONCE, users)
        signs_BD, counts_B = _signs(earlier + first, last - first).to(device), seen.offsets[first : last + 1].diff()
        users_N = torch.arange(last - first, device=device).repeat_interleave(counts_B)
        items_N = seen.items_N[int(seen.offsets[first]) : int(seen.offsets[last])].long()
        for users_B, items_B in zip(users_N.split(RATINGS_AT_ONCE), items_N.split(RATINGS_AT_ONCE), strict=True):
            projected_ID.index_add_(0, items_B, signs_BD[users_B])
    return communicator.sum(projected_ID)


def _signs(first: int, users: int) -> Tensor:
    """The signs of some users from the `first` on, (B, D): each user has a counter of the generator, 256 bits."""
    bits_B4 = np.random.Philox(key=0, counter=first).random_raw(4 * users).reshape(users, 4)
    bits_BD = np.unpackbits(bits_B4.view(np.uint8), axis=1)
    return torch.from_numpy(bits_BD).float() * 2 - 1
