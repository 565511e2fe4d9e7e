"""What is kept of the posterior samples: their mean as one bilinear form, and how far ratings lie from it.

Σ_s w_s P_s Q_sᵀ is the product of the concatenated factors, each times √w_s. Samples are taken in blocks, and between
blocks a rank well above the published one is kept, so that the samples need not be held.
Shapes: U users, I items, K table width (factors, then bias), F published rank, W rank that is kept, N probes. Tables
have one row more, for unknown ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from training.communicator import SINGLE_PROCESS, Communicator, LocalRows, Span
from training.fit.kernels.collapse import reduced

PROBES = 4  # pairs for each user and each item
UNKNOWN_PROBES = 512  # pairs for the unknown user and the unknown item
LEAST = 0.45  # of the average variance, by which a user or an item may fall below it
TINY = 1e-300  # a weight of nothing: then all sums are 0
PASSES = 10  # of the fit of row variances; the sums change by less than 1 % after 5
MEAN = {
    "left": "_left_UW",
    "right": "_right_IW",
    "user_bias": "_user_bias_U",
    "item_bias": "_item_bias_I",
    "weight": "_weight",
}
SPREAD = {"probes": "_probes_2N", "moments": "_moments_3N", "weight": "_weight"}


class Mean:
    """The weighted mean of samples.

    Of several ranks each has the sums of its users and its items. All have the rows for unknown ids, which count on the
    first alone. `block` columns are gathered before they are reduced to W, the `rank`.
    """

    def __init__(self, users: LocalRows, items: LocalRows, device: torch.device, *, rank: int, block: int) -> None:
        self._communicator, self._rank, self._block = users.communicator, rank, block
        rows_U, rows_I = len(users.span) + 1, len(items.span) + 1
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self._left_UW = torch.zeros(rows_U, 0, device=device)
        self._right_IW = torch.zeros(rows_I, 0, device=device)
        self._user_bias_U, self._item_bias_I, self._weight = zeros(rows_U), zeros(rows_I), zeros(())

    def add(self, user_UK: Tensor, item_IK: Tensor, weight: float = 1.0) -> None:
        """Add one sample's tables."""
        root = math.sqrt(weight)
        self._left_UW = torch.cat([self._left_UW, root * self._counted(user_UK[:, :-1])], dim=1)
        self._right_IW = torch.cat([self._right_IW, root * self._counted(item_IK[:, :-1])], dim=1)
        if self._left_UW.shape[1] >= self._rank + self._block:
            self._left_UW, self._right_IW = self._reduced(self._rank)
        self._user_bias_U += weight * user_UK[:, -1]
        self._item_bias_I += weight * item_IK[:, -1]
        self._weight += weight

    @property
    def weight(self) -> float:
        """That of all samples so far."""
        return float(self._weight)

    def tables(self, rank: int) -> tuple[Tensor, Tensor]:
        """The mean as one sample's tables: factors of the given rank, 0 where it has less, then the bias."""
        left_UF, right_IF = self._reduced(rank)
        missing, root = (0, rank - left_UF.shape[1]), self._weight.sqrt().float()
        user_bias_U, item_bias_I = (bias_R / self._weight for bias_R in (self._user_bias_U, self._item_bias_I))
        return (
            torch.cat([self._completed(pad(left_UF, missing)) / root, user_bias_U.float()[:, None]], dim=1),
            torch.cat([self._completed(pad(right_IF, missing)) / root, item_bias_I.float()[:, None]], dim=1),
        )

    def _reduced(self, rank: int) -> tuple[Tensor, Tensor]:
        return reduced(self._left_UW, self._right_IW, rank, self._communicator)

    def _counted(self, table_RF: Tensor) -> Tensor:
        """The row for unknown ids is 0 on all ranks but the first."""
        return table_RF if self._communicator.first else torch.cat([table_RF[:-1], torch.zeros_like(table_RF[-1:])])

    def _completed(self, table_RF: Tensor) -> Tensor:
        """With the first rank's row for unknown ids."""
        return torch.cat([table_RF[:-1], self._communicator.sum(table_RF[-1:])])

    def state(self) -> dict[str, Tensor]:
        """All sums, by name."""
        return _state(self, MEAN)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        _restore(self, MEAN, state)


class Spread:
    """The variance of a rating around the mean of the samples, followed on probe pairs.

    Each row's partners are drawn as often as they were rated. Unlike the training pairs, probes are mostly pairs the
    sampler has not seen. Of several ranks each has its users' probes. `users` and `items` are U and I.
    """

    def __init__(self, probes_2N: Tensor, users: int, items: int, communicator: Communicator = SINGLE_PROCESS) -> None:
        self._communicator, self._shape, self._probes_2N = communicator, (users + 1, items + 1), probes_2N
        self._moments_3N = torch.zeros(3, probes_2N.shape[1], dtype=torch.float64, device=probes_2N.device)
        self._weight = torch.zeros((), dtype=torch.float64, device=probes_2N.device)

    def add(
        self, user_UK: Tensor, item_IK: Tensor, user_noise_U: Tensor, item_noise_I: Tensor, weight: float = 1.0
    ) -> None:
        """Follow one sample's predictions, unknown rows being draws. A rating's noise is its rows' product."""
        users_N, items_N = self._probes_2N
        predicted_N = predicted(user_UK, item_IK, users_N, items_N)
        noise_N = user_noise_U[users_N] * item_noise_I[items_N]
        self._moments_3N += weight * torch.stack([predicted_N, predicted_N.square(), noise_N])
        self._weight += weight

    def add_all(self, other: Spread, weight: float) -> None:
        """Add the mean over another one's samples, of the same probes, as a sample of the given weight."""
        state = other.state()
        self._moments_3N += weight * state["moments"] / state["weight"].clamp(min=TINY)
        self._weight += weight

    def variances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Least-squares split of the probes' variances into a common part (), one for each user (U+1,) and item (I+1,).

        None is negative: what a row lacks to the average, `LEAST` of it at most, is moved into the rows' parts.
        """
        mean_N, squares_N, noise_N = self._moments_3N / self._weight.clamp(min=TINY)
        variance_N = (squares_N - mean_N.square()).clamp(min=0) + noise_N
        common, user_U, item_I = additive(variance_N, self._probes_2N, *self._shape, self._communicator)
        least = LEAST * common
        parts = (common - 2 * least, (user_U + least).clamp(min=0), (item_I + least).clamp(min=0))
        return parts[0].float(), parts[1].float(), parts[2].float()

    def of_all(self, sharers: Communicator) -> Spread:
        """What all ranks have found on the same probes, each with samples of its own."""
        users, items = (rows - 1 for rows in self._shape)
        spread = Spread(self._probes_2N, users, items, self._communicator)
        spread._moments_3N, spread._weight = sharers.sum(self._moments_3N), sharers.sum(self._weight)
        return spread

    def state(self) -> dict[str, Tensor]:
        """All sums, by name."""
        return _state(self, SPREAD)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        _restore(self, SPREAD, state)


def predicted(user_UK: Tensor, item_IK: Tensor, users_N: Tensor, items_N: Tensor) -> Tensor:
    """What tables of factors and biases predict for pairs, float64, (N,)."""
    p_NK, q_NK = user_UK[users_N], item_IK[items_N]
    return ((p_NK[:, :-1] * q_NK[:, :-1]).sum(1) + p_NK[:, -1] + q_NK[:, -1]).double()


def _state(owner: object, fields: Mapping[str, str]) -> dict[str, Tensor]:
    return {name: getattr(owner, field).clone() for name, field in fields.items()}


def _restore(owner: object, fields: Mapping[str, str], state: Mapping[str, Tensor]) -> None:
    for name, field in fields.items():
        setattr(owner, field, state[name].clone())


def additive(
    values_N: Tensor, pairs_2N: Tensor, users: int, items: int, communicator: Communicator = SINGLE_PROCESS
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit values ≈ common + user part + item part by alternating averages, shrunk by one observation.

    Of several ranks each has the pairs of its own users; the last user and all items are everybody's.
    """
    users_N, items_N = pairs_2N
    common = communicator.mean(values_N)
    user_U, item_I = values_N.new_zeros(users), values_N.new_zeros(items)
    for _ in range(PASSES):
        sums_U2 = _sums(values_N - common - item_I[items_N], users_N, users)
        user_U = _averages(torch.cat([sums_U2[:-1], communicator.sum(sums_U2[-1:])]))
        item_I = _averages(communicator.sum(_sums(values_N - common - user_U[users_N], items_N, items)))
    return common, user_U, item_I


def _sums(values_N: Tensor, rows_N: Tensor, rows: int) -> Tensor:
    """Sums and numbers of the values of each row, (R, 2)."""
    both_N2 = torch.stack([values_N, torch.ones_like(values_N)], dim=1)
    return values_N.new_zeros(rows, 2).index_add_(0, rows_N, both_N2)


def _averages(sums_R2: Tensor) -> Tensor:
    return sums_R2[:, 0] / (1 + sums_R2[:, 1])


def draw_probes(users_N: Tensor, items_N: Tensor, users: int, items: Span, rng: np.random.Generator) -> Tensor:
    """Pairs to follow, int64, (2, N): `PROBES` for each row, the partner taken from a random training rating.

    Of several ranks each draws those of its users, and of its items with users of its own.
    """
    if len(users_N) == 0:
        return torch.empty(2, 0, dtype=torch.int64, device=users_N.device)
    own_U = np.append(np.repeat(np.arange(users), PROBES), np.full(UNKNOWN_PROBES, users))
    own_I = np.append(np.repeat(np.arange(items.start, items.stop), PROBES), np.full(UNKNOWN_PROBES, items.total))
    of_user = items_N.cpu()[torch.from_numpy(rng.integers(len(items_N), size=len(own_U)))]
    of_item = users_N.cpu()[torch.from_numpy(rng.integers(len(users_N), size=len(own_I)))]
    users_P, items_P = torch.cat([torch.from_numpy(own_U), of_item]), torch.cat([of_user, torch.from_numpy(own_I)])
    return torch.stack([users_P, items_P]).long().to(users_N.device)
