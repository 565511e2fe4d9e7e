"""Computes rows from ratings alone, for a user that the trainer has never seen, without another fit.

With the items' tables fixed, a rating is r = μ + b_i + q_i·p + b + noise: linear in the row x = [p, b]. A normal
prior, learned from the rows that the trainer did fit, makes the row's posterior normal too, and its mean the solution
of the regularised least squares that trainers solve row by row (Zhou, Wilkinson, Schreiber and Pan 2008, section 3.1;
Salakhutdinov and Mnih 2008, eq. 12): x = m + (S⁻¹ + AᵀA/σ²)⁻¹ Aᵀ(r − μ − b_i − Am)/σ², A having the rows [q_i, 1].
It is solved in the smaller of two equal forms: as large as a row, or as its number of ratings (Woodbury 1950).
Everything is computed in float64. Shapes: C columns (items), F factors, K = F + 1, R rows, N ratings of one
row, M of all rows, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.relevance import HeadSolver, RelevanceHead
from models.scoring import Floats, Rows
from models.training_ratings import TrainingRatings

Float64s = npt.NDArray[np.float64]

LEAST_NOISE = 1e-6  # in squared ratings; with zero noise, one rating would outweigh the prior completely
PAIRS_AT_ONCE = 1 << 20
ROWS_AT_ONCE = 1 << 16
ROWS_OF_MOMENTS = 1 << 12  # a megabyte of 64 factors, which the cache of a core holds
CELLS = 1 << 21  # numbers of features gathered at once by `solve_many`
PADDING = 4  # rows are padded to a multiple of so many ratings before they are solved together


@dataclass(frozen=True, slots=True)
class FoldInPrior:
    """The populations that users and items are taken from; their means are the model's rows for unknown ids.

    The covariances are those of the rows [p_u, b_u] or [q_i, b_i] with ratings, around that of unknown ids.
    """

    noise: Tensor  # σ², the mean squared error of the training ratings, float32, ()
    user_covariance_KK: Tensor  # float32, (K, K)
    item_covariance_KK: Tensor

    @classmethod
    def learn(cls, model: MatrixFactorization, seen: TrainingRatings) -> FoldInPrior:
        """Learn the prior from a model and its training ratings. `benchmarks/fold_in.py` compares it with others."""
        user_counts_U = seen.offsets.diff()[:-1].to(model.device)
        item_counts_I = torch.from_numpy(seen.counts(model.items)).to(model.device)
        return cls(
            _mean_squared_error(model, seen).clamp(min=LEAST_NOISE).float(),
            _covariance(model.user_factors, model.user_bias, user_counts_U),
            _covariance(model.item_factors, model.item_bias, item_counts_I),
        )

    def tensors(self) -> Mapping[str, Tensor]:
        """By name, as a checkpoint stores them."""
        names = ("noise", "user_covariance", "item_covariance")
        return dict(zip(names, (self.noise, self.user_covariance_KK, self.item_covariance_KK), strict=True))

    def to(self, device: torch.device | str) -> FoldInPrior:
        return FoldInPrior(*(table.to(device) for table in self.tensors().values()))


def _covariance(factors_RF: Tensor, bias_R: Tensor, counts_R: Tensor) -> Tensor:
    """Mean of (x − m)(x − m)ᵀ over the rated rows, m being the row after the last."""
    rated = counts_R > 0
    table_RK = torch.cat([factors_RF, bias_R[:, None]], dim=1)
    width = table_RK.shape[1]
    sum_KK = torch.zeros(width, width, dtype=torch.float64, device=factors_RF.device)
    for part_RK in table_RK[:-1][rated].split(ROWS_AT_ONCE):
        away_RK = part_RK.double() - table_RK[-1].double()
        sum_KK += away_RK.T @ away_RK
    return (sum_KK / rated.sum().clamp(min=1)).float()


def _mean_squared_error(model: MatrixFactorization, seen: TrainingRatings) -> Tensor:
    users = torch.arange(len(seen.offsets) - 1, device=seen.offsets.device)
    users_N = users.repeat_interleave(seen.offsets.diff())
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for begin in range(0, len(users_N), PAIRS_AT_ONCE):
        part = slice(begin, begin + PAIRS_AT_ONCE)
        users_B, items_B = users_N[part].to(model.device), seen.items_N[part].to(model.device).long()
        total += (model(users_B, items_B) - seen.ratings_N[part].to(model.device)).double().square().sum()
    return total / max(len(users_N), 1)


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was folded in.

    `variance` is the variance of a rating from the uncertainty of the row: the mean over the items' rows, each counted
    as often as it was rated. It falls with every rating.
    """

    factors: Floats  # p, float32, (F,)
    bias: np.float32
    variance: float


@dataclass(frozen=True, slots=True)
class FoldedRows:
    """R rows, as `Row`: float32 (R, F) and (R,), on the device of the tables."""

    factors_RF: Tensor
    bias_R: Tensor
    variance_R: Tensor


@dataclass(frozen=True, slots=True)
class Contributions:
    """A prediction for a row as a sum: `baseline`, without any rating of the row, and a contribution of each rating."""

    baseline: float
    parts_N: Float64s


class SolverTables(NamedTuple):
    """The tables of the solver, as tensors, or as arrays for one row: numpy's calls start faster than torch's.

    Of all roots with S = root rootᵀ, `root_KK` is the one in which the mean variance of ratings is a sum: `spread_K`.
    """

    factors_CF: Any
    bias_C: Any
    prior_K: Any
    root_KK: Any
    spread_K: Any


class RowSolver:
    """Solves the rows of users against the known items of a model, with the prior of users.

    `counts_I` is the number of ratings of each item, for `Row.variance`; None counts each item once.
    """

    def __init__(
        self, model: MatrixFactorization, prior: FoldInPrior, counts_I: npt.NDArray[np.integer[Any]] | None = None
    ) -> None:
        self._mean, self._noise, device = float(model.mean), float(prior.noise), model.device
        factors_CF, bias_C = model.item_factors[:-1], model.item_bias[:-1]
        counts_C = torch.ones_like(bias_C) if counts_I is None else torch.tensor(counts_I).to(device)
        values_K, vectors_KK = torch.linalg.eigh(prior.user_covariance_KK.double().cpu())
        root_KK = (vectors_KK * values_K.clamp(min=0).sqrt()).to(device)
        moments_KK = _second_moments(factors_CF, counts_C)
        spread_K, axes_KK = torch.linalg.eigh((root_KK.T @ moments_KK @ root_KK).cpu())
        prior_K = torch.cat([model.user_factors[-1], model.user_bias[-1:]]).double()
        root_KK = root_KK @ axes_KK.to(device)
        self.tables = SolverTables(factors_CF, bias_C, prior_K, root_KK, spread_K.clamp(min=0).to(device))
        self.prior_variance = float(self.tables.spread_K.sum())

    @cached_property
    def host(self) -> SolverTables:
        """The tables as arrays."""
        return SolverTables(*(table.cpu().numpy() for table in self.tables))

    def solve(self, columns_N: Rows, ratings_N: npt.NDArray[np.floating]) -> Row:
        """The row of some ratings: distinct columns, and their ratings. Without ratings it is the prior mean."""
        if self.tables.factors_CF.device.type != "cpu":
            offsets = torch.tensor([0, len(columns_N)])
            rows = self.solve_many(offsets, torch.from_numpy(columns_N), torch.from_numpy(ratings_N))
            row = torch.cat([rows.factors_RF[0], rows.bias_R, rows.variance_R]).cpu().numpy()
            return Row(row[:-2], row[-2], float(row[-1]))
        step_K, learned = self._steps(*self._weighted(self.host, columns_N, ratings_N), self.host.spread_K)
        row_K = (self.host.prior_K + self.host.root_KK @ step_K).astype(np.float32)
        return Row(row_K[:-1], row_K[-1], max(self.prior_variance - float(learned), 0.0))

    def contributions(self, columns_N: Rows, ratings_N: npt.NDArray[np.floating], target: int) -> Contributions:
        """The row's prediction of the column `target`, unclipped, as a sum over the ratings of the row.

        The row is linear in the difference between each rating and its prediction from the prior mean. `baseline` is
        the prediction from that mean.
        """
        weights_NK, errors_N = self._weighted(self.host, columns_N, ratings_N)
        feature_K = np.append(self.host.factors_CF[target].astype(np.float64), 1.0)
        inverse, target_K = self._inverse(weights_NK), feature_K @ self.host.root_KK
        if len(weights_NK) <= weights_NK.shape[1]:
            linear_N = inverse @ (weights_NK @ target_K)
        else:
            linear_N = weights_NK @ (inverse @ target_K) / self._noise
        baseline = self._mean + float(self.host.bias_C[target]) + feature_K @ self.host.prior_K
        return Contributions(float(baseline), linear_N * errors_N)

    def solve_many(self, offsets: Tensor, columns_M: Tensor, ratings_M: Tensor) -> FoldedRows:
        """The rows of many lists of ratings: those of row r are `offsets[r] : offsets[r + 1]`, int64 (R+1,).

        The tensors may be on any device; the arithmetic is on that of the tables.
        """
        device, rows, width = self.tables.factors_CF.device, len(offsets) - 1, len(self.tables.prior_K)
        rows_RK = self.tables.prior_K.expand(rows, width).clone()
        variance_R = torch.full((rows,), self.prior_variance, dtype=torch.float64, device=device)
        columns_M, ratings_M, offsets = columns_M.to(device), ratings_M.to(device), offsets.to("cpu")
        for rows_B, length in _batches(offsets, width):
            begins_B = offsets[rows_B].to(device)
            counts_B = offsets[rows_B + 1].to(device) - begins_B
            present_BN = torch.arange(length, device=device) < counts_B[:, None]
            places_BN = torch.where(present_BN, torch.arange(length, device=device), 0) + begins_B[:, None]
            weights_BNK, errors_BN = self._weighted(self.tables, columns_M[places_BN], ratings_M[places_BN])
            # Padding is zero in both and contributes nothing.
            weights_BNK, errors_BN = weights_BNK.mul_(present_BN[..., None]), errors_BN.mul_(present_BN)
            step_BK, learned_B = self._steps(weights_BNK, errors_BN, self.tables.spread_K)
            at = rows_B.to(device)
            rows_RK[at] += step_BK @ self.tables.root_KK.T
            variance_R[at] -= learned_B
        rows_32 = rows_RK.float()
        return FoldedRows(rows_32[:, :-1], rows_32[:, -1], variance_R.clamp(min=0).float())

    def _weighted(self, tables: SolverTables, columns: Any, ratings: Any) -> tuple[Any, Any]:
        """A·root, (…, N, K), and each rating minus its prediction from the prior mean, (…, N)."""
        features_MF = _float64(tables.factors_CF[columns.reshape(-1)])
        weights = (features_MF @ tables.root_KK[:-1]).reshape(*columns.shape, len(tables.prior_K))
        weights += tables.root_KK[-1]
        of_prior = (features_MF @ tables.prior_K[:-1]).reshape(columns.shape)
        return weights, _float64(ratings) - (
            self._mean + _float64(tables.bias_C[columns]) + of_prior + tables.prior_K[-1]
        )

    def _steps(self, weights: Any, errors: Any, spread_K: Any) -> tuple[Any, Any]:
        """Each row minus the prior mean, in units of the root (…, K), and the decrease of its variance."""
        inverse = self._inverse(weights)
        if weights.shape[-2] <= weights.shape[-1]:
            step = weights.mT @ (inverse @ errors[..., None])
            return step[..., 0], (((weights * spread_K) @ weights.mT) * inverse).sum((-2, -1))
        step = inverse @ (weights.mT @ errors[..., None])
        return step[..., 0] / self._noise, self.prior_variance - inverse.diagonal(0, -2, -1) @ spread_K

    def _inverse(self, weights: Any) -> Any:
        """(σ²I + WWᵀ)⁻¹ or (I + WᵀW/σ²)⁻¹, whichever is smaller."""
        count, width = weights.shape[-2:]
        gram = weights @ weights.mT if count <= width else weights.mT @ weights / self._noise
        size = min(count, width)
        gram.reshape(*gram.shape[:-2], size * size)[..., :: size + 1] += self._noise if count <= width else 1
        if isinstance(gram, Tensor):
            return torch.cholesky_inverse(torch.linalg.cholesky_ex(gram).L)
        return np.linalg.inv(gram)


@dataclass(frozen=True, slots=True)
class FoldIn:
    """Folds users into a model."""

    users: RowSolver  # solves users from the items they rated
    head: HeadSolver | None  # solves users for the relevance head; None without a head

    @classmethod
    def of(
        cls,
        model: MatrixFactorization,
        prior: FoldInPrior,
        head: RelevanceHead | None,
        counts_I: npt.NDArray[np.integer[Any]],
        fitted: int | None = None,
    ) -> Self:
        """`counts_I` is the number of training ratings of each item. `fitted` is as in `HeadSolver`."""
        return cls(RowSolver(model, prior, counts_I), None if head is None else HeadSolver(head, fitted))


def _float64(values: Any) -> Any:
    return values.double() if isinstance(values, Tensor) else values.astype(np.float64)


def _second_moments(factors_CF: Tensor, counts_C: Tensor) -> Tensor:
    """Mean of aaᵀ over the rows a = [q, 1], each counted `counts_C` times, float64, (K, K).

    Few rows are multiplied at once in float32, which is off by 10⁻⁹ and takes a seventh of the time of float64: 0.1 s
    for a million rows of 64 factors.
    """
    counts_C = counts_C.double()
    shares_C = (counts_C / counts_C.sum().clamp(min=1)).float()
    factors = factors_CF.shape[1]
    moments_KK = torch.zeros(factors + 1, factors + 1, dtype=torch.float64, device=factors_CF.device)
    for part_RF, shares_R in zip(factors_CF.split(ROWS_OF_MOMENTS), shares_C.split(ROWS_OF_MOMENTS), strict=True):
        weighted_RF = part_RF * shares_R[:, None]
        moments_KK[:-1, :-1] += part_RF.T @ weighted_RF
        moments_KK[-1, :-1] += weighted_RF.sum(0)
    moments_KK[:-1, -1], moments_KK[-1, -1] = moments_KK[-1, :-1], 1
    return moments_KK


def _batches(offsets: Tensor, width: int) -> Iterator[tuple[Tensor, int]]:
    """Rows with similar numbers of ratings, as row numbers on the host, and the number that they are padded to."""
    counts_R = offsets.diff()
    padded_R = (counts_R + PADDING - 1) // PADDING * PADDING
    powers_R = 1 << (padded_R.clamp(min=1) - 1).double().log2().floor().long() + 1
    padded_R = torch.where(counts_R > width, powers_R, padded_R)
    order_R = padded_R.argsort(stable=True)
    lengths, counts = padded_R[order_R].unique_consecutive(return_counts=True)
    for length, rows_L in zip(lengths.tolist(), order_R.split(counts.tolist()), strict=True):
        if length:
            for rows_B in rows_L.split(max(1, CELLS // (length * width))):
                yield rows_B, length
