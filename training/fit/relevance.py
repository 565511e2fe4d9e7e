"""Fitting the relevance head: what orders lists. It knows ratings and cells, not the rating model beside it.

A head is the sum of two scores: factors solved by weighted least squares over all cells, and an item-to-item
regression; each is ahead on some data. How strongly the factors are penalised, which regression it is and how much it
counts is found on a tenth of the ratings, fitted to the others; then both are fitted to all ratings, and reduced to one
form. Where items are related in many small groups, the factors of items are the columns of the reduced regression.
Shapes: U users, I items, C items covered by the regression, G factors, H of them solved, N training ratings.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from models.mf import with_average_row
from models.relevance import RelevanceHead, RelevanceRule
from training.fit.inner_split import inner_split, part
from training.fit.item_regression import ItemRegression, compressed_rows, taken_rows, weights_bytes
from training.fit.kernels.tiles import padded_width
from training.fit.relevance_choice import Choice, Judge
from training.fit.relevance_settings import RelevanceSettings
from training.fit.relevance_tables import Reduction
from training.fit.solved_rows import TargetsByUser, solved_rows
from training.fit.trainer import TrainingSet
from training.fit.weighted_factors import WeightedFactors, rating_targets

log = logging.getLogger(__name__)
MILDER = (0.5, 0.25)  # times the regularisation: tried too
TRIAL_SWEEPS = 2  # with each of these, from the factors before
SPLIT_SEED = 0  # of the ratings that are held out
FINAL_SWEEPS = 4  # on all ratings, from the best factors of nine tenths
MOST_JUDGED = (
    2500  # items, those with most ratings, among which settings are tried: an inverse takes an eighth of 5,000
)
NO_REGRESSION = Choice(weight=0.0)
COLUMN_NORM = 100.0  # of columns that are solved for: with 5 to 100 NDCG@10 on anime's training part is 0.303 to 0.304


@dataclass(frozen=True, slots=True)
class Start:
    """What a fit on all ratings begins with."""

    regularisation: float
    items_IK: Tensor | None
    choice: Choice


class RelevanceFit:
    """An epoch is a sweep of the solved factors: on nine tenths of the ratings, at last on all of them."""

    def __init__(self, data: TrainingSet, settings: RelevanceSettings, rng: np.random.Generator) -> None:
        self.data, self.settings, self._rng = data, settings, rng
        self.epochs = settings.sweeps + TRIAL_SWEEPS * len(MILDER) + FINAL_SWEEPS
        self._losses = self._fit()
        self._head: RelevanceHead | None = None

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: RelevanceSettings) -> int:
        """The ratings as given and their targets, twice grouped by user and by item, for factors and regression; the
        tables of factors once more as a head; four matrices of the covered items; twice the weights of neighbours."""
        solved = 4 * (users + items) * padded_width(settings.factors, biased=False)
        covered = min(settings.regression_items, items)
        published = 4 * (users + 2 * items) * max(settings.factors, settings.rank if covered else 0)
        grouped = 2 * 8 + (2 * 12 if covered else 0)
        regressed = 4 * 4 * covered**2 + (2 * weights_bytes(items, covered) if covered else 0)
        return (12 + 4 + grouped) * ratings + 3 * solved + 2 * published + regressed + 40 * (users + items)

    def epoch(self) -> Mapping[str, Tensor]:
        """Sweep once. `loss` is the weighted squared error over all cells before the penalty, per rating."""
        return {"loss": next(self._losses)}

    def model(self) -> RelevanceHead:
        """The head, after the last epoch, on the device of the data."""
        if self._head is None:
            raise RuntimeError("the head is there after the last epoch")
        return self._head

    def _fit(self) -> Generator[Tensor, None, None]:
        start = yield from self._tried()
        if start.choice.solves_columns:
            self.epochs -= FINAL_SWEEPS - 1  # nothing is solved by turns
            self._head, loss = self._of_columns(start.choice)
            yield loss
            return
        factors = WeightedFactors(self.data, self.settings)
        factors.regularisation = start.regularisation
        if start.items_IK is None:
            factors.start(self._rng)
        else:
            factors.items_IK = start.items_IK
        sweeps = FINAL_SWEEPS if start.items_IK is not None else self.epochs
        for sweep in range(1, sweeps + 1):
            loss = factors.sweep()
            if sweep == sweeps:
                self._head = self._combined(factors, start.choice)
            yield loss

    def _tried(self) -> Generator[Tensor, None, Start]:
        """Fit to nine tenths of the ratings, and return what is best on the others."""
        settings = self.settings
        kept, held_N = inner_split(self.data, SPLIT_SEED, bounded=False)
        held = part(self.data, held_N)
        if kept.total() == 0:
            return self._untried()
        place_I = kept.most_rated(min(settings.regression_items or MOST_JUDGED, MOST_JUDGED))
        judged_C = (place_I >= 0).nonzero()[:, 0]
        targets_N = rating_targets(kept, settings.slope)[place_I[kept.items_N.long()] >= 0]
        judged, held = kept.of_items(place_I), held.of_items(place_I)
        judge = Judge(ItemRegression(judged, targets_N, len(judged_C)), judged, targets_N, held)
        if not judge.can_choose:
            return self._untried()
        factors = WeightedFactors(kept, settings)
        factors.start(self._rng)
        best, found = -1.0, Start(settings.regularisation, None, NO_REGRESSION)
        best_items_CH = best_scores_BC = factors.items_IK
        for share in (1.0, *MILDER):
            factors.regularisation = share * settings.regularisation
            for _ in range(settings.sweeps if share == 1.0 else TRIAL_SWEEPS):
                yield factors.sweep()
            items_CH = factors.items_IH()[judged_C]
            scores_BC = factors.users_UH()[judge.users_B] @ items_CH.T
            if (quality := judge.ndcg(scores_BC)) > best:
                best, found = quality, Start(factors.regularisation, factors.items_IK.clone(), NO_REGRESSION)
                best_items_CH, best_scores_BC = items_CH, scores_BC
        if settings.regression_items:
            parts = partial(self._parts, judge, best_items_CH, best_scores_BC)
            found = replace(found, choice=judge.choose(parts))
        log.info("relevance head: regularisation %g, %s", found.regularisation, found.choice)
        return found

    def _parts(self, judge: Judge, items_CH: Tensor, solved_BC: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
        """Scores of the judged users for the covered items, (B, C), in their published form: solved and regressed."""
        regression = judge.regression
        if choice.solves_columns:
            items_CH = self._columns(regression, choice)
            rows_BG, _ = self._solved(taken_rows(regression.targets_UC, judge.users_B), items_CH)
            solved_BC = rows_BG @ items_CH.T
        items_CG, summed_CG = self._reduced(regression, items_CH, choice)
        return solved_BC, judge.targets_BC @ summed_CG @ items_CG.T

    def _columns(self, regression: ItemRegression, choice: Choice) -> Tensor:
        """The columns of the reduced regression as factors of items, orthogonal ones, (I, G)."""
        none_I0 = self.data.ratings_N.new_zeros(len(regression.counts_I), 0)
        return COLUMN_NORM * Reduction(regression, choice, none_I0).columns(self.settings.rank, self._rng)

    def _solved(self, targets_UI: Tensor, items_IG: Tensor) -> tuple[Tensor, Tensor]:
        return solved_rows(TargetsByUser.of(targets_UI), items_IG, COLUMN_NORM**2, self.settings)

    def _reduced(self, regression: ItemRegression, items_IH: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
        """All factors of items, (I, G), of which the first are given, and what targets add to a user's row, (C, G)."""
        reduction = Reduction(regression, choice, items_IH)
        columns_IK = reduction.columns(self.settings.rank - items_IH.shape[1], self._rng)
        return torch.cat([items_IH, columns_IK], dim=1), reduction.summed(columns_IK)

    def _untried(self) -> Start:
        """Where there is too little to choose from, factors and regression count alike."""
        log.info("relevance head: too few ratings to choose its settings from; they are the default ones")
        choice = Choice() if self.settings.regression_items else NO_REGRESSION
        return Start(self.settings.regularisation, None, choice)

    def _combined(self, factors: WeightedFactors, choice: Choice) -> RelevanceHead:
        """The head of factors that were solved by turns, and of what the regression adds."""
        regression = self._regression() if choice.weight else None
        return self._published(factors.users_UH(), factors.items_IH(), factors.regularisation, regression, choice)

    def _of_columns(self, choice: Choice) -> tuple[RelevanceHead, Tensor]:
        """The head of the regression's columns, for which users are solved too, and the loss of these rows."""
        data, regression = self.data, self._regression()
        items_IG, targets_N = self._columns(regression, choice), rating_targets(data, self.settings.slope)
        shape = (data.users, data.items)
        users_UG, error = self._solved(
            compressed_rows(data.users_N.long(), data.items_N.long(), targets_N, shape), items_IG
        )
        head = self._published(users_UG, items_IG, self.settings.regularisation, regression, choice)
        return head, data.communicator.sum(error) / data.total()

    def _regression(self) -> ItemRegression:
        targets_N = rating_targets(self.data, self.settings.slope)
        return ItemRegression(self.data, targets_N, self.settings.regression_items)

    def _published(
        self,
        users_UH: Tensor,
        items_IH: Tensor,
        regularisation: float,
        regression: ItemRegression | None,
        choice: Choice,
    ) -> RelevanceHead:
        """Solved rows, and what the regression adds to them."""
        users_UG, items_IG, summed_IG = users_UH, items_IH, torch.zeros_like(items_IH)
        counts_U, data = self.data.user_counts(), self.data
        if regression is not None:
            items_IG, summed_CG = self._reduced(regression, items_IH, choice)
            users_UG = pad(users_UH, (0, items_IG.shape[1] - users_UH.shape[1]))
            users_UG = users_UG + regression.targets_UC @ summed_CG
            summed_IG = torch.zeros_like(items_IG)
            summed_IG[regression.covered_C] = summed_CG
        head = RelevanceHead(
            data.communicator.with_average_row(users_UG, counts_U),
            with_average_row(items_IG, data.item_totals()),
            pad(summed_IG, (0, 0, 0, 1)),
            self._rule(regularisation, items_IH.shape[1]),
        )
        head.user_factors[:-1][counts_U == 0] = head.user_factors[-1]
        return head

    def _rule(self, regularisation: float, solved: int) -> RelevanceRule:
        mean, deviation = self.data.standardisation()
        settings = self.settings
        return RelevanceRule(
            mean=float(mean),
            deviation=float(deviation),
            slope=settings.slope,
            missing_weight=settings.missing_weight,
            regularisation=regularisation,
            exponent=settings.exponent,
            solved_factors=solved,
        )
