"""Fitting the relevance head: what orders lists. It knows ratings and cells, not the rating model beside it.

A head is the sum of two scores: factors solved by weighted least squares over all cells, and an item-to-item
regression; each is ahead on some data. How strongly the factors are penalised and how much the regression counts is
found on a tenth of the ratings, fitted to the others; then both are fitted to all ratings, and reduced to one form.
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
from training.fit.item_regression import ItemRegression
from training.fit.kernels.tiles import padded_width
from training.fit.relevance_choice import Choice, Judge
from training.fit.relevance_settings import RelevanceSettings
from training.fit.relevance_tables import Reduction
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
        tables of factors once more as a head; four matrices of the covered items."""
        solved = 4 * (users + items) * padded_width(settings.factors, biased=False)
        covered = min(settings.regression_items, items)
        published = 4 * (users + 2 * items) * max(settings.factors, settings.rank if covered else 0)
        grouped = 2 * 8 + (2 * 12 if covered else 0)
        return (12 + 4 + grouped) * ratings + 3 * solved + 2 * published + 4 * 4 * covered**2 + 40 * (users + items)

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
            reduced = partial(self._reduced_scores, judge, best_items_CH)
            found = replace(found, choice=judge.choose(best_scores_BC, reduced))
        log.info("relevance head: regularisation %g, %s", found.regularisation, found.choice)
        return found

    def _reduced_scores(self, judge: Judge, items_CH: Tensor, choice: Choice) -> Tensor:
        """Of the judged users for the covered items, (B, C): those of the regression in its published form."""
        items_CG, summed_CG = self._reduced(judge.regression, items_CH, choice)
        return judge.targets_BC @ summed_CG @ items_CG.T

    def _reduced(self, regression: ItemRegression, items_IH: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
        """All factors of items, (I, G), of which the first are given, and what targets add to a user's row, (C, G)."""
        reduction = Reduction(regression, regression.inverse(choice.ridge), choice, items_IH)
        columns_IK = reduction.columns(self.settings.rank - items_IH.shape[1], self._rng)
        return torch.cat([items_IH, columns_IK], dim=1), reduction.summed(columns_IK)

    def _untried(self) -> Start:
        """Where there is too little to choose from, factors and regression count alike."""
        log.info("relevance head: too few ratings to choose its settings from; they are the default ones")
        choice = Choice() if self.settings.regression_items else NO_REGRESSION
        return Start(self.settings.regularisation, None, choice)

    def _combined(self, factors: WeightedFactors, choice: Choice) -> RelevanceHead:
        users_UG, items_IG, summed_IG = factors.users_UH(), factors.items_IH(), torch.zeros_like(factors.items_IH())
        counts_U, counts_I, data = self.data.user_counts(), self.data.item_totals(), self.data
        if choice.weight:
            targets_N = rating_targets(data, self.settings.slope)
            regression = ItemRegression(data, targets_N, self.settings.regression_items)
            items_IG, summed_CG = self._reduced(regression, items_IG, choice)
            users_UG = pad(users_UG, (0, items_IG.shape[1] - users_UG.shape[1]))
            users_UG = users_UG + regression.targets_UC @ summed_CG
            summed_IG = torch.zeros_like(items_IG)
            summed_IG[regression.covered_C] = summed_CG
        head = RelevanceHead(
            data.communicator.with_average_row(users_UG, counts_U),
            with_average_row(items_IG, counts_I),
            pad(summed_IG, (0, 0, 0, 1)),
            self._rule(factors),
        )
        head.user_factors[:-1][counts_U == 0] = head.user_factors[-1]
        return head

    def _rule(self, factors: WeightedFactors) -> RelevanceRule:
        mean, deviation = self.data.standardisation()
        settings = self.settings
        return RelevanceRule(
            mean=float(mean),
            deviation=float(deviation),
            slope=settings.slope,
            missing_weight=settings.missing_weight,
            regularisation=factors.regularisation,
            exponent=settings.exponent,
            solved_factors=settings.factors,
        )
