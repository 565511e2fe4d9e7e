"""Rows of items that the trainer has never seen, from their attributes and their ratings, without another fit.

It is what `models.fold_in` does for users, seen from the other side: the users' rows are fixed, and the prior is
around the row that the item's attributes let expect (`models.attributes`). Everything is computed in float64 in the
host's memory. Shapes: I fitted items, N new ones, M ratings of these, C users who gave them, D attributes, F factors,
K = F + 1, G factors of the relevance head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from models.attributes import AttributePrior, Float64s, float64
from models.fold_in import LEAST_NOISE, FoldInPrior, RowSolver
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead, RelevanceRule, gram, targets
from models.scoring import Floats
from models.training_ratings import TrainingRatings

CELLS_LOOKED_AT = 100_000
NOT_FITTED = 0.7  # of the scores of cells that a head was fitted to: `benchmarks/new_items.py` compares others


class Raters(NamedTuple):
    """The rows of the users who rated new items: p_u, b_u, and x_u where there is a relevance head."""

    factors_CF: Floats
    bias_C: Floats
    head_CG: Floats | None


class RatingsOfNew(NamedTuple):
    """Ratings of new items by item: those of item n are `offsets[n] : offsets[n + 1]`, int64 (N+1,)."""

    offsets: npt.NDArray[np.int64]
    raters_M: npt.NDArray[np.int64]  # rows of `Raters`
    ratings_M: Float64s


class NewItemRows(NamedTuple):
    """The rows of new items, float32. `left_N` is the share of an unknown item's variance that is left."""

    factors_NF: Floats
    bias_N: Floats
    left_N: Floats
    head_NG: Floats | None


@dataclass(frozen=True, slots=True)
class NewItemSolver:
    """Solves the rows of new items for a model and its relevance head."""

    ratings: RatingRows
    head: HeadRows | None

    @classmethod
    def learn(
        cls,
        model: MatrixFactorization,
        prior: FoldInPrior,
        head: RelevanceHead | None,
        catalogue: pa.Table,
        seen: TrainingRatings,
    ) -> Self:
        """Learn what attributes tell, from what is known of the fitted items, and their training ratings."""
        counts_I = seen.counts(model.items)
        items_IK = torch.cat([model.item_factors, model.item_bias[:, None]], dim=1)
        of_ratings = RatingRows(
            model, prior, AttributePrior.learn(catalogue, counts_I, items_IK, float64(items_IK[-1]))
        )
        if head is None:
            return cls(of_ratings, None)
        rated = torch.from_numpy(np.flatnonzero(counts_I)).to(head.item_factors.device)
        average_G = float64(head.item_factors[rated].mean(0) if len(rated) else head.item_factors[-1])
        expected = AttributePrior.learn(catalogue, counts_I, head.item_factors, average_G)
        users_GG = gram(head.user_factors[:-1]).cpu().numpy()
        typical = float(counts_I.sum() / max(len(rated), 1))
        score, noise = _scores_of_targets(head, seen)
        spread_G, axes_GG = np.linalg.eigh(expected.covariance_KK)
        root_GG = axes_GG * np.sqrt(spread_G.clip(min=0) / noise)
        return cls(of_ratings, HeadRows(head.rule, expected, root_GG, users_GG, typical, NOT_FITTED * score))

    def knows(self, described: pa.Table) -> npt.NDArray[np.bool_]:
        """Which items have an attribute that tells something of their rows, (N,)."""
        return self.ratings.expected.known(described)

    def solve(self, described: pa.Table, raters: Raters, ratings: RatingsOfNew) -> NewItemRows:
        """The rows of new items: what is known of each (`DESCRIBED` columns), and their ratings."""
        features_ND = self.ratings.expected.features(described)
        rows_NK, left_N = self.ratings.solve(features_ND, raters, ratings)
        rows_NG = None
        if self.head is not None and raters.head_CG is not None:
            rows_NG = self.head.solve(features_ND, raters.head_CG, ratings).astype(np.float32)
        return NewItemRows(rows_NK[:, :-1], rows_NK[:, -1], left_N, rows_NG)


@dataclass(frozen=True, slots=True)
class RatingRows:
    """The rows [q_i, b_i] of new items."""

    model: MatrixFactorization
    prior: FoldInPrior
    expected: AttributePrior

    def solve(self, features_ND: Float64s, raters: Raters, ratings: RatingsOfNew) -> tuple[Floats, Floats]:
        """The rows, float32 (N, K), and the share of an unknown item's variance that is left, (N,).

        The posterior mean is linear, so what is expected beyond the average is subtracted from the ratings first.
        """
        beyond_NK = features_ND @ self.expected.effects_DK
        items_M = np.repeat(np.arange(len(beyond_NK)), np.diff(ratings.offsets))
        users_MK = np.column_stack([raters.factors_CF, np.ones_like(raters.bias_C)])[ratings.raters_M].astype(
            np.float64
        )
        left_M = ratings.ratings_M - (users_MK * beyond_NK[items_M]).sum(1)
        solver = self._solver(raters)
        found = solver.solve_many(
            torch.from_numpy(ratings.offsets), torch.from_numpy(ratings.raters_M), torch.from_numpy(left_M)
        )
        rows_NK = torch.cat([found.factors_RF, found.bias_R[:, None]], dim=1).numpy() + beyond_NK
        left_N = np.where(features_ND.any(axis=1), self._left_by_attributes(), 1.0)
        if solver.prior_variance > 0:
            left_N *= found.variance_R.numpy() / solver.prior_variance
        return rows_NK.astype(np.float32), left_N.astype(np.float32)

    def _left_by_attributes(self) -> float:
        """The share of the variance of rows that is left when their attributes are known."""
        before = float(self.prior.item_covariance_KK.trace())
        return min(float(np.trace(self.expected.covariance_KK)) / before, 1.0) if before > 0 else 1.0

    def _solver(self, raters: Raters) -> RowSolver:
        """The solver of users' rows with the sides exchanged: its columns are the raters."""
        average_F, bias = self.expected.average_K[:-1], self.expected.average_K[-1:]
        exchanged = MatrixFactorization(
            mean=self.model.mean.cpu(),
            user_factors=torch.from_numpy(average_F[None]),
            user_bias=torch.from_numpy(bias),
            item_factors=_with_unused_row(raters.factors_CF),
            item_bias=_with_unused_row(raters.bias_C),
        )
        covariance_KK = torch.from_numpy(self.expected.covariance_KK)
        return RowSolver(exchanged, FoldInPrior(self.prior.noise.cpu(), covariance_KK, covariance_KK))


@dataclass(frozen=True, slots=True)
class HeadRows:
    """The rows y_i of new items in a relevance head.

    A fit gives an item the row that minimises Σ (target − x·y)² over those who rated it, plus w Σ (x·y)² over all
    others. Of a new item most users have not heard, so few ratings say little against it: it is taken as one that will
    have the `typical` number of ratings, and with n of them the share n / `typical` of the users has heard of it.
    Around the row that its attributes let expect, the prior is that of the fitted rows, each item counted once: most
    new items will be rated rarely, as most items are. Where the fitted rows do not differ, as with fewer items than
    factors, new ones do not either: their covariance S is used by a root of it, S = R Rᵀ, and never inverted.
    """

    rule: RelevanceRule
    expected: AttributePrior
    root_GG: Float64s  # R of the prior, in units of the deviation of a score
    users_GG: Float64s  # Σ x xᵀ over all users
    typical: float  # the mean number of ratings of an item
    score: float  # for each unit of a target: the head is a sum of two, each of which is fitted to the targets

    def solve(self, features_ND: Float64s, raters_CG: Floats, ratings: RatingsOfNew) -> Float64s:
        """The rows, (N, G)."""
        rows_NG = self.expected.expected(features_ND)
        rule = self.rule
        targets_M = self.score * targets(ratings.ratings_M, rule.mean, rule.deviation, rule.slope)
        for item in np.flatnonzero(np.diff(ratings.offsets)).tolist():
            own = slice(ratings.offsets[item], ratings.offsets[item + 1])
            users_MG = raters_CG[ratings.raters_M[own]].astype(np.float64)
            rows_NG[item] += self._step(rows_NG[item], users_MG, targets_M[own])
        return rows_NG

    def _step(self, expected_G: Float64s, users_MG: Float64s, targets_M: Float64s) -> Float64s:
        """How far the ratings move a row from what was expected."""
        missing = self.rule.missing_weight * min(1.0, len(targets_M) / self.typical)
        cells_GG = missing * self.users_GG + (1 - missing) * (users_MG.T @ users_MG)
        left_G = users_MG.T @ targets_M - cells_GG @ expected_G
        root_GG = self.root_GG
        inner_GG = root_GG.T @ cells_GG @ root_GG + np.eye(len(root_GG))
        return np.asarray(root_GG @ np.linalg.solve(inner_GG, root_GG.T @ left_G), np.float64)


def _scores_of_targets(head: RelevanceHead, seen: TrainingRatings) -> tuple[float, float]:
    """How high the head's scores of rated cells are for each unit of their targets, and their squared error then."""
    rule, every = head.rule, max(1, len(seen.items_N) // CELLS_LOOKED_AT)
    users_N = torch.arange(len(seen.offsets) - 1, device=seen.offsets.device).repeat_interleave(seen.offsets.diff())
    users_B, items_B, ratings_B = users_N[::every], seen.items_N[::every].long(), seen.ratings_N[::every]
    scores_B = (head.user_factors[users_B] * head.item_factors[items_B]).sum(1)
    targets_B = targets(ratings_B, rule.mean, rule.deviation, rule.slope)
    score = float(scores_B @ targets_B) / max(float(targets_B @ targets_B), LEAST_NOISE)
    return score, max(float((scores_B - score * targets_B).square().mean()), LEAST_NOISE)


def _with_unused_row(table: Floats) -> Tensor:
    """A table whose last row stands for an unknown id, which nobody asks for."""
    return torch.from_numpy(np.concatenate([table, np.zeros_like(table[:1], shape=(1, *table.shape[1:]))]))
