"""The spectral model: ridge regressions of the ratings on features that say who rated what, whatever the ratings.

The matrix of the features is 1 where there is a training rating, each entry divided by the fourth roots of the numbers
of ratings of its user and its item. Its leading singular vectors, found by subspace iteration (Halko, Martinsson and
Tropp 2011, algorithm 4.4), times singular values and again by such a root, are the features of users and of items.
What the bias model leaves is regressed on them in closed form: first each user's ratings on the features of the items,
then what is left of each item's ratings on the features of the users. Both are bilinear, and so is their sum.

It errs elsewhere than a Bayesian model, so a mean of both is better than either.
Shapes: U users of this rank, I items, N ratings, A features.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.mf import MatrixFactorization, with_average_row
from training.communicator import SINGLE_PROCESS, Communicator
from training.fit.item_regression import compressed_rows
from training.fit.kernels.als import TorchRows
from training.fit.kernels.als_rows import HalfStep
from training.fit.trainer import TrainingSet

CANDIDATES = (32, 64, 128)  # numbers of features
POWER = 0.25
# Of a regression whose features have a mean square length of 1. On inner tenths of MovieLens-100K, -latest-small, yelp
# and anime, half of both changes the RMSE of the mean by 0.001 at most, and twice as much is worse on all but yelp.
USER_RIDGE, ITEM_RIDGE = 1.0, 3.0
ITERATIONS = 4
SPARE = 16  # columns that the iteration carries beyond those that are kept
SEED = 0  # of what the iteration starts from; its result hardly depends on it
PIECE = 1 << 18  # ratings that are predicted together
TINY = 1e-30  # a mean square of features that are all 0


class Spectral:
    """The model of some ratings on any number of features, `most` at most. `baseline` is their bias model."""

    def __init__(self, data: TrainingSet, baseline: MatrixFactorization, most: int) -> None:
        self._data, self._baseline = data, baseline
        self._user_UA, self._item_IA = features(data, most)
        self._left_N = data.ratings_N - _predicted(baseline, data)

    def model(self, count: int) -> MatrixFactorization:
        """The model on the first `count` features. It has two factors for each."""
        data, baseline = self._data, self._baseline
        user_counts_U, item_counts_I = data.user_counts(), data.item_totals()
        user_UA = _scaled(self._user_UA[:, :count], user_counts_U, data.communicator)
        item_IA = _scaled(self._item_IA[:, :count], item_counts_I)
        of_users_UA = self._solved(self._left_N, 0, item_IA[data.item_span.rows], USER_RIDGE)
        left_N = self._left_N - _products(of_users_UA, item_IA, data)
        of_items_IA = self._solved(left_N, 1, user_UA, ITEM_RIDGE)
        of_items_IA = data.communicator.gathered(of_items_IA, data.item_span)
        users_UF, items_IF = torch.cat([of_users_UA, user_UA], dim=1), torch.cat([item_IA, of_items_IA], dim=1)
        return MatrixFactorization(
            baseline.mean,
            data.communicator.with_average_row(users_UF, user_counts_U),
            with_average_row(items_IF, item_counts_I),
            baseline.user_bias,
            baseline.item_bias,
        )

    def _solved(self, values_N: Tensor, side: int, other_CA: Tensor, ridge: float) -> Tensor:
        """The rows of a side that explain the values best, (R, A): of the users of this rank, or of its items."""
        data, width = self._data, other_CA.shape[1]
        rows = data.als_sides(values_N, partial(TorchRows, width=width), width)[side]
        out_RA = torch.zeros((data.users, len(data.item_span))[side], width, device=data.device)
        rows.solve(HalfStep(other_CA, torch.full_like(out_RA[:, 0], ridge)), out_RA)
        return out_RA


def features(data: TrainingSet, most: int) -> tuple[Tensor, Tensor]:
    """At most `most` features of users and of items, float32, (U, A) and (I, A), those of large singular values first.

    They are 0 for users and items without ratings. All ranks have those of all items.
    """
    users_N, items_N, communicator = data.users_N.long(), data.items_N.long(), data.communicator
    user_U, item_I = (count_R.clamp(min=1).float() ** -POWER for count_R in (data.user_counts(), data.item_totals()))
    values_N = user_U[users_N] * item_I[items_N]
    by_user = compressed_rows(users_N, items_N, values_N, (data.users, data.items))
    by_item = compressed_rows(items_N, users_N, values_N, (data.items, data.users))
    least = min(data.user_span.total, data.items)
    drawn = np.random.default_rng(SEED).standard_normal((data.items, min(most + SPARE, least)), dtype=np.float32)
    basis_IA = torch.from_numpy(drawn).to(data.device)
    for _ in range(ITERATIONS):
        basis_IA = torch.linalg.qr(communicator.sum(by_item @ (by_user @ basis_IA))).Q
    basis_IA = communicator.from_first(basis_IA)  # signs are free, and must be the same on all ranks
    spread_UA = by_user @ basis_IA
    squares_A, axes_AA = torch.linalg.eigh(communicator.sum(spread_UA.double().T @ spread_UA.double()))
    axes_AA = communicator.from_first(axes_AA.flip(1)[:, : min(most, least)].float())
    roots_A = squares_A.flip(0)[: axes_AA.shape[1]].clamp(min=0).sqrt().float()
    return user_U[:, None] * (spread_UA @ axes_AA), item_I[:, None] * (basis_IA @ (axes_AA * roots_A))


def _scaled(features_RA: Tensor, counts_R: Tensor, communicator: Communicator = SINGLE_PROCESS) -> Tensor:
    """With a mean square length of 1, each row counted as often as it has ratings."""
    squares = communicator.sum((counts_R * features_RA.double().square().sum(1)).sum())
    mean = squares / communicator.sum(counts_R.sum()).clamp(min=1)
    return (features_RA * mean.clamp(min=TINY).rsqrt()).float()


def _products(users_UA: Tensor, items_IA: Tensor, data: TrainingSet) -> Tensor:
    """The dot product for each training rating, (N,)."""
    pieces = zip(data.users_N.long().split(PIECE), data.items_N.long().split(PIECE), strict=True)
    return torch.cat([(users_UA[users_P] * items_IA[items_P]).sum(1) for users_P, items_P in pieces])


def _predicted(model: MatrixFactorization, data: TrainingSet) -> Tensor:
    return model.mean + model.user_bias[data.users_N.long()] + model.item_bias[data.items_N.long()]
