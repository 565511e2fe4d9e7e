"""What the data decides about a relevance head: settings are tried on a tenth of the ratings, fitted to the others.

It does not know how the head is fitted. Shapes: M held-out ratings, B users that are judged, C covered items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor

from training import metrics
from training.fit.item_regression import Form, ItemRegression
from training.fit.trainer import TrainingSet

log = logging.getLogger(__name__)
LEAST_RELEVANT = 200  # held-out ratings at or above the mean; with fewer, chance would choose
MOST_USERS = 2000  # judged, of all ranks; of 6,000 of ml-1m's users 2,000 tell settings apart to 0.002
LIST_LENGTH = 10
FORMS = (  # of the regression; of each kind the best one is tried beside the solved factors
    tuple(Form(ridge) for ridge in (50.0, 15.0, 150.0)),
    tuple(Form(ridge, neighbours_alone=True) for ridge in (10.0, 100.0)),
)
DAMPINGS = (0.0, 0.1)
WEIGHTS = (0.0, 1.0, 0.5, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """How the regression takes part in the scores.

    Attributes:
        form: of the regression.
        damping: its score of an item is multiplied by (count / mean count)^−damping.
        weight: of its scores beside those of the solved factors; 0 leaves it out.
        solves_columns: users are solved for against the columns of the reduced regression, not against factors that
            were solved by turns; then all columns are its own.
    """

    form: Form = FORMS[0][0]
    damping: float = DAMPINGS[0]
    weight: float = 1.0
    solves_columns: bool = False

    def __str__(self) -> str:
        if self.weight == 0:
            return "no regression"
        regressors = "neighbours alone" if self.form.neighbours_alone else "all covered items"
        solved = ", users solved for on its columns" if self.solves_columns else ""
        return (
            f"a regression on {regressors}, ridge {self.form.ridge:g}, damping {self.damping:g}, "
            f"weight {self.weight:g}{solved}"
        )

    def item_weights(self, counts_R: Tensor) -> Tensor:
        """By what the regression's scores of items with so many ratings are multiplied, float32."""
        counts_R = counts_R.float().clamp(min=1)
        typical = counts_R.square().sum() / counts_R.sum()  # the mean over ratings
        weights_R: Tensor = self.weight * (counts_R / typical) ** -self.damping
        return weights_R


class Judge:
    """NDCG@10 of scores of the covered items, for held-out ratings at or above the mean."""

    def __init__(self, regression: ItemRegression, kept: TrainingSet, targets_N: Tensor, held: TrainingSet) -> None:
        self.regression, self._communicator = regression, kept.communicator
        covered_C = regression.covered_C
        place_I = torch.full((kept.items,), -1, dtype=torch.int64, device=kept.device)
        place_I[covered_C] = torch.arange(len(covered_C), device=kept.device)
        mean, _ = kept.standardisation()
        users_M, places_M = held.users_N.long(), place_I[held.items_N.long()]
        fit_M = (held.ratings_N >= mean) & (places_M >= 0) & (kept.user_counts()[users_M] > 0)
        users_M, places_M = users_M[fit_M], places_M[fit_M]
        users_U = users_M.unique()
        most = max(1, MOST_USERS // kept.communicator.size)
        step = max(1, -(-len(users_U) // most))
        self.users_B = users_U[::step]
        row_U = torch.full((kept.users,), -1, dtype=torch.int64, device=kept.device)
        row_U[self.users_B] = torch.arange(len(self.users_B), device=kept.device)
        judged_M = row_U[users_M] >= 0
        self._relevant_BC = torch.zeros(len(self.users_B), len(covered_C), dtype=torch.bool, device=kept.device)
        self._relevant_BC[row_U[users_M[judged_M]], places_M[judged_M]] = True
        rows_N, places_N = row_U[kept.users_N.long()], place_I[kept.items_N.long()]
        here_N = (rows_N >= 0) & (places_N >= 0)
        self._seen_BC = torch.zeros_like(self._relevant_BC)
        self._seen_BC[rows_N[here_N], places_N[here_N]] = True
        self.targets_BC = targets_N.new_zeros(self._seen_BC.shape)
        self.targets_BC[rows_N[here_N], places_N[here_N]] = targets_N[here_N]
        self.relevant = kept.communicator.total(int(self._relevant_BC.sum()))

    @property
    def can_choose(self) -> bool:
        return self.relevant >= LEAST_RELEVANT

    def ndcg(self, scores_BC: Tensor) -> float:
        """The mean over the users of all ranks."""
        top = scores_BC.masked_fill(self._seen_BC, -torch.inf).topk(min(LIST_LENGTH, scores_BC.shape[1]))
        hits_BK = self._relevant_BC.gather(1, top.indices)
        gains_B = metrics.ndcg(hits_BK, self._relevant_BC.sum(1)) if len(hits_BK) else hits_BK.double().sum(1)
        sums = self._communicator.sum(torch.stack([gains_B.sum(), gains_B.new_tensor(len(gains_B))]))
        return float(sums[0] / sums[1])

    def choose(self, parts: Callable[[Choice], tuple[Tensor, Tensor]]) -> Choice:
        """Of each kind of form the one that is best without reduction; then what is best of all with it.

        `parts` gives the scores of the solved factors and of the regression in their published form, of the judged
        users (B, C) each, from a choice of weight 1.
        """
        forms = [max(kind, key=self._quality) for kind in FORMS]
        tried = [Choice(form, damping) for form in forms for damping in DAMPINGS]
        tried.append(Choice(forms[-1], solves_columns=True))  # those of dense weights were never ahead
        found = [self._best(_mixed(choice, *parts(choice))) for choice in tried]
        return max(found, key=itemgetter(1))[0]

    def _quality(self, form: Form) -> float:
        return self.ndcg(self.regression.weights(form).scores(self.targets_BC))

    def _best(self, tried: Iterable[tuple[Choice, Tensor]]) -> tuple[Choice, float]:
        """The first of those with the best scores, and how good they are."""
        return max(((choice, self.ndcg(scores_BC)) for choice, scores_BC in tried), key=itemgetter(1))


def _mixed(choice: Choice, solved_BC: Tensor, regressed_BC: Tensor) -> Iterator[tuple[Choice, Tensor]]:
    for weight in WEIGHTS:
        if weight or not choice.solves_columns:  # without a regression there are no columns to solve for
            yield replace(choice, weight=weight), solved_BC + weight * regressed_BC
