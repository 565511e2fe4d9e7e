"""Rows that follow from ratings alone: a user (or item) that the trainer has never seen, without another fit.

With the other side's tables fixed, a rating is r = μ + b_i + q_i·p + b + noise: linear in the row x = [p, b]. A normal
prior, learned from the rows that the trainer did fit, makes the row's posterior normal too, and its mean the solution
of the regularised least squares that trainers solve row by row (Zhou, Wilkinson, Schreiber and Pan 2008, section 3.1;
Salakhutdinov and Mnih 2008, eq. 12): x = m + (S⁻¹ + AᵀA/σ²)⁻¹ Aᵀ(r − μ − b_i − Am)/σ², A having the rows [q_i, 1].
It is solved in the smaller of two equal forms: as large as a row, or as its number of ratings (Woodbury 1950).
Everything is computed in float64. Shapes: C columns (the other side), F factors, K = F + 1, R rows, N ratings of one
row, M of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.fold_in_prior import FoldInPrior
from models.mf import MatrixFactorization
from models.relevance import HeadSolver, RelevanceHead

Float64s = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32] | npt.NDArray[np.int64]

CELLS = 1 << 21  # numbers of features gathered at once by `solve_many`
PADDING = 4  # rows are padded to a multiple of so many ratings before they are solved together


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was folded in.

    Attributes:
        factors: p, float32, (F,).
        bias: b.
        variance: of a rating, from not knowing the row exactly: the mean over the other side's rows, each counted as
            often as it was rated. It falls with every rating.
    """

    factors: Float32s
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
    """A prediction for a row as a sum: `baseline`, which no rating of the row had a part in, and a part for each."""

    baseline: float
    parts_N: Float64s


class RowSolver:
    """Solves the rows of one side against the tables of the other.

    Args:
        factors_CF: the other side's factors, float32, its known rows alone.
        bias_C: the other side's biases.
        mean: μ.
        prior_mean_K: m of a row [p, b].
        prior_covariance_KK: S of it, symmetric and positive semidefinite.
        noise: σ², the variance of a rating around its expectation, above 0.
        counts_C: how often each of the other side's rows was rated, for `Row.variance`; None counts each once.
    """

    def __init__(
        self,
        factors_CF: Tensor,
        bias_C: Tensor,
        mean: float,
        prior_mean_K: Tensor,
        prior_covariance_KK: Tensor,
        noise: float,
        counts_C: Tensor | None = None,
    ) -> None:
        self._factors_CF, self._bias_C = factors_CF, bias_C
        self._mean, self._noise = mean, noise
        device, width = factors_CF.device, len(prior_mean_K)
        self._prior_K = prior_mean_K.double().to(device)
        values_K, vectors_KK = torch.linalg.eigh(prior_covariance_KK.double().cpu())
        root_KK = (vectors_KK * values_K.clamp(min=0).sqrt()).to(device)
        moments_KK = _second_moments(factors_CF, bias_C.new_ones(len(bias_C)) if counts_C is None else counts_C)
        # Of all roots with S = root rootᵀ the one in which the mean variance of ratings is a sum over coordinates.
        spread_K, axes_KK = torch.linalg.eigh((root_KK.T @ moments_KK @ root_KK).cpu())
        self._root_KK, self._spread_K = root_KK @ axes_KK.to(device), spread_K.clamp(min=0).to(device)
        self.prior_variance = float(self._spread_K.sum())
        self._identity_KK = torch.eye(width, dtype=torch.float64, device=device)

    def solve(self, columns_N: Rows, ratings_N: npt.NDArray[np.floating]) -> Row:
        """The row of some ratings: the columns that were rated, each at most once, and how. None: the prior mean."""
        if self._factors_CF.device.type != "cpu":
            offsets = torch.tensor([0, len(columns_N)])
            rows = self.solve_many(offsets, torch.from_numpy(columns_N), torch.from_numpy(ratings_N))
            return Row(rows.factors_RF[0].cpu().numpy(), np.float32(rows.bias_R[0]), float(rows.variance_R[0]))
        weights_NK, errors_N = self._weighted(columns_N, ratings_N)
        gram = self._inverse(weights_NK)
        if len(columns_N) <= len(self._prior):
            step_K = weights_NK.T @ (gram @ errors_N)
            learned = float((gram * ((weights_NK * self._spread) @ weights_NK.T)).sum())
        else:
            step_K = gram @ (weights_NK.T @ errors_N) / self._noise
            learned = self.prior_variance - float(gram.diagonal() @ self._spread)
        row_K = (self._prior + self._root @ step_K).astype(np.float32)
        return Row(row_K[:-1], row_K[-1], max(self.prior_variance - learned, 0.0))

    def contributions(self, columns_N: Rows, ratings_N: npt.NDArray[np.floating], target: int) -> Contributions:
        """The row's rating of the column `target`, r̂ without clipping, by the ratings that it follows from.

        The row is linear in how far each rating lies from what the prior mean expects of it. `baseline` is the
        prediction of that mean.
        """
        weights_NK, errors_N = self._weighted(columns_N, ratings_N)
        target_K = self._feature(target) @ self._root
        gram = self._inverse(weights_NK)
        if len(columns_N) <= len(self._prior):
            linear_N = gram @ (weights_NK @ target_K)
        else:
            linear_N = weights_NK @ (gram @ target_K) / self._noise
        baseline = self._mean + self._biases[target] + self._feature(target) @ self._prior
        return Contributions(float(baseline), linear_N * errors_N)

    def solve_many(self, offsets: Tensor, columns_M: Tensor, ratings_M: Tensor) -> FoldedRows:
        """The rows of many lists of ratings: those of row r are `offsets[r] : offsets[r + 1]`, int64 (R+1,).

        The tensors may be on any device; the arithmetic is on that of the tables.
        """
        device, rows, width = self._factors_CF.device, len(offsets) - 1, len(self._prior_K)
        rows_RK = self._prior_K.expand(rows, width).clone()
        variance_R = torch.full((rows,), self.prior_variance, dtype=torch.float64, device=device)
        columns_M, ratings_M = columns_M.to(device), ratings_M.to(device)
        offsets = offsets.to("cpu")
        for rows_B, length in _batches(offsets, width):
            begins_B = offsets[rows_B].to(device)
            counts_B = offsets[rows_B + 1].to(device) - begins_B
            places_BN = begins_B[:, None] + torch.arange(length, device=device)
            present_BN = torch.arange(length, device=device) < counts_B[:, None]
            places_BN = torch.where(present_BN, places_BN, begins_B[:, None])
            weights_BNK, errors_BN = self._weighted_many(columns_M[places_BN], ratings_M[places_BN], present_BN)
            step_BK, learned_B = self._steps(weights_BNK, errors_BN)
            at = rows_B.to(device)
            rows_RK[at] += step_BK @ self._root_KK.T
            variance_R[at] -= learned_B
        rows_32 = rows_RK.float()
        return FoldedRows(rows_32[:, :-1], rows_32[:, -1], variance_R.clamp(min=0).float())

    def _steps(self, weights_BNK: Tensor, errors_BN: Tensor) -> tuple[Tensor, Tensor]:
        """How far each row lies from the prior mean, in units of the root (B, K), and how much its variance falls."""
        length = weights_BNK.shape[1]
        if length <= len(self._prior_K):
            gram_BNN = weights_BNK @ weights_BNK.mT
            gram_BNN.diagonal(dim1=1, dim2=2).add_(self._noise)
            inverse_BNN = torch.cholesky_inverse(torch.linalg.cholesky_ex(gram_BNN).L)
            step_BK = (weights_BNK.mT @ (inverse_BNN @ errors_BN[..., None]))[..., 0]
            spread_BNN = (weights_BNK * self._spread_K) @ weights_BNK.mT
            return step_BK, spread_BNN.mul_(inverse_BNN).sum((1, 2))
        gram_BKK = weights_BNK.mT @ weights_BNK / self._noise + self._identity_KK
        inverse_BKK = torch.cholesky_inverse(torch.linalg.cholesky_ex(gram_BKK).L)
        step_BK = (inverse_BKK @ (weights_BNK.mT @ errors_BN[..., None]))[..., 0] / self._noise
        return step_BK, self.prior_variance - inverse_BKK.diagonal(dim1=1, dim2=2) @ self._spread_K

    def _weighted_many(self, columns_BN: Tensor, ratings_BN: Tensor, present_BN: Tensor) -> tuple[Tensor, Tensor]:
        """As `_weighted` for padded rows; what is not present is zero in both and has no part in anything."""
        features_MF = self._factors_CF[columns_BN.flatten()].double()
        weights_BNK = (features_MF @ self._root_KK[:-1]).view(*columns_BN.shape, -1).add_(self._root_KK[-1])
        expected_BN = self._mean + self._bias_C[columns_BN].double()
        expected_BN += (features_MF @ self._prior_K[:-1]).view(columns_BN.shape)
        errors_BN = ratings_BN.double() - expected_BN - self._prior_K[-1]
        return weights_BNK.mul_(present_BN[..., None]), errors_BN.mul_(present_BN)

    def _weighted(self, columns_N: Rows, ratings_N: npt.NDArray[np.floating]) -> tuple[Float64s, Float64s]:
        """A·root, and how far each rating lies from what the prior mean expects."""
        features_NF = self._features[columns_N].astype(np.float64)
        weights_NK = features_NF @ self._root[:-1] + self._root[-1]
        expected_N = self._mean + self._biases[columns_N] + features_NF @ self._prior[:-1] + self._prior[-1]
        return weights_NK, ratings_N - expected_N

    def _inverse(self, weights_NK: Float64s) -> Float64s:
        """(σ²I + WWᵀ)⁻¹ or (I + WᵀW/σ²)⁻¹, whichever is smaller."""
        count, width = weights_NK.shape
        if count <= width:
            gram = weights_NK @ weights_NK.T
            gram.flat[:: count + 1] += self._noise
        else:
            gram = weights_NK.T @ weights_NK / self._noise
            gram.flat[:: width + 1] += 1
        inverse: Float64s = np.linalg.inv(gram.astype(np.float64))
        return inverse

    def _feature(self, column: int) -> Float64s:
        return np.append(self._features[column].astype(np.float64), 1.0)

    @cached_property
    def _features(self) -> Float32s:
        features: Float32s = self._factors_CF.cpu().numpy()
        return features

    @cached_property
    def _biases(self) -> Float64s:
        return self._bias_C.cpu().numpy().astype(np.float64)

    @cached_property
    def _prior(self) -> Float64s:
        prior: Float64s = self._prior_K.cpu().numpy()
        return prior

    @cached_property
    def _root(self) -> Float64s:
        root: Float64s = self._root_KK.cpu().numpy()
        return root

    @cached_property
    def _spread(self) -> Float64s:
        spread: Float64s = self._spread_K.cpu().numpy()
        return spread


@dataclass(frozen=True, slots=True)
class FoldIn:
    """What folds users into a model.

    Attributes:
        users: solves users from the items they rated.
        head: solves users for the relevance head, None where there is none.
    """

    users: RowSolver
    head: HeadSolver | None

    @classmethod
    def of(cls, model: MatrixFactorization, prior: FoldInPrior, head: RelevanceHead | None, counts_I: Counts) -> Self:
        """`counts_I` says how many training ratings each item has."""
        return cls(user_solver(model, prior, counts_I), None if head is None else HeadSolver(head))


def user_solver(model: MatrixFactorization, prior: FoldInPrior, counts_I: Counts | None = None) -> RowSolver:
    """What solves the rows of users against the items of a model. `counts_I` as `RowSolver` takes it."""
    return RowSolver(
        model.item_factors[:-1],
        model.item_bias[:-1],
        float(model.mean),
        torch.cat([model.user_factors[-1], model.user_bias[-1:]]),
        prior.user_covariance_KK,
        float(prior.noise),
        None if counts_I is None else torch.tensor(counts_I).to(model.device),
    )


def _second_moments(factors_CF: Tensor, counts_C: Tensor) -> Tensor:
    """Mean of aaᵀ over the rows a = [q, 1], each counted `counts_C` times, float64, (K, K)."""
    counts_C = counts_C.double()
    total = counts_C.sum().clamp(min=1)
    sums_FF, sums_F = 0.0, 0.0
    for part, counts in zip(factors_CF.split(1 << 16), counts_C.split(1 << 16), strict=True):
        part_CF = part.double()
        sums_FF = sums_FF + part_CF.T @ (part_CF * counts[:, None])
        sums_F = sums_F + counts @ part_CF
    factors = factors_CF.shape[1]
    moments_KK = torch.ones(factors + 1, factors + 1, dtype=torch.float64, device=factors_CF.device)
    moments_KK[:-1, :-1] = sums_FF / total
    moments_KK[:-1, -1] = moments_KK[-1, :-1] = sums_F / total
    return moments_KK


def _batches(offsets: Tensor, width: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of about as many ratings, as row numbers on the host, and to how many ratings they are to be padded."""
    counts_R = offsets.diff()
    padded_R = (counts_R + PADDING - 1) // PADDING * PADDING
    padded_R = torch.where(
        counts_R > width, 1 << (padded_R.clamp(min=1) - 1).double().log2().floor().long() + 1, padded_R
    )
    order_R = padded_R.argsort(stable=True)
    lengths, counts = padded_R[order_R].unique_consecutive(return_counts=True)
    for length, rows_L in zip(lengths.tolist(), order_R.split(counts.tolist()), strict=True):
        if length:
            for rows_B in rows_L.split(max(1, CELLS // (length * width))):
                yield rows_B, length
