"""Measures a model on held-out ratings.

It refuses a test part that overlaps the training part. Shapes: N test ratings, B users, I items, K list length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.orderings import by_rating, by_relevance
from models.relevance import RelevanceHead
from models.scoring import BilinearForm
from models.search import top_items
from models.training_ratings import TrainingRatings
from training import metrics
from training.communicator import SINGLE_PROCESS, Communicator
from training.data.interactions import Interactions
from training.errors import OverlapError

LIST_LENGTH = 10
USERS_PER_BATCH = 512
PAIRS_PER_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class TestSet:
    """Held-out ratings as indices into a model's tables, on one device. Unknown ids are the index past the last.

    Attributes:
        users_N, items_N, ratings_N: int64, int64 and float32.
        scale: the lowest and the highest rating, to which predictions are clipped for some figures.
        relevant: ratings at or above it count as relevant.
        communicator: of the ranks that evaluate together, each the held-out ratings of its own users.
    """

    users_N: Tensor
    items_N: Tensor
    ratings_N: Tensor
    scale: tuple[float, float]
    relevant: float
    communicator: Communicator = SINGLE_PROCESS

    def __len__(self) -> int:
        return len(self.ratings_N)

    def take(self, rows: Tensor) -> TestSet:
        """The given rows (int64, on any device) in the given order."""
        rows = rows.to(self.ratings_N.device)
        return replace(self, users_N=self.users_N[rows], items_N=self.items_N[rows], ratings_N=self.ratings_N[rows])


def make_test_set(
    train: Interactions,
    test: Interactions,
    scale: tuple[float, float],
    relevant: float | None,
    device: torch.device,
    communicator: Communicator = SINGLE_PROCESS,
) -> TestSet | None:
    """The test part for the evaluator; None if it is empty.

    `relevant` defaults to three quarters up the scale, 4 on 1–5. Both parts have the vocabularies
    of the training part. Raises OverlapError if a pair is in both parts.
    """
    rows = communicator.total(len(test))
    if rows == 0:
        return None
    shared = communicator.total(int(np.isin(test.pairs_N(), train.pairs_N()).sum()))
    if shared:
        raise OverlapError(f"{shared} of {rows} test pairs are also in the training part")
    low, high = scale
    return TestSet(
        users_N=torch.tensor(test.users_N, dtype=torch.int64, device=device),
        items_N=torch.tensor(test.items_N, dtype=torch.int64, device=device),
        ratings_N=torch.tensor(test.ratings_N, device=device),  # a copy: arrays that Arrow owns are read-only
        scale=scale,
        relevant=low + 0.75 * (high - low) if relevant is None else relevant,
        communicator=communicator,
    )


def predict(model: MatrixFactorization, test: TestSet) -> Tensor:
    """Unclipped predictions for the test pairs, shape (N,)."""
    chunks = zip(test.users_N.split(PAIRS_PER_BATCH), test.items_N.split(PAIRS_PER_BATCH), strict=True)
    return torch.cat([model(users_B, items_B) for users_B, items_B in chunks])


def held_out_rmse(model: MatrixFactorization, test: TestSet, *, clipped: bool = False) -> float:
    """RMSE alone, unclipped or of predictions clipped to the scale, as the service answers them."""
    predicted_N = predict(model, test)
    return _rmse(test, predicted_N.clamp(*test.scale) if clipped else predicted_N)


def _rmse(test: TestSet, predicted_N: Tensor) -> float:
    return math.sqrt(test.communicator.pooled(metrics.mse(predicted_N, test.ratings_N), len(test)))


def evaluate(
    model: MatrixFactorization, test: TestSet, seen: TrainingRatings, head: RelevanceHead | None = None
) -> dict[str, float | None]:
    """All figures of `docs/evaluation.md` except `bias_rmse`; None if one does not apply.

    `head` orders lists if there is one, else r̂ does.
    The ranking figures are means over users with at least one relevant test item, of lists over all items the user has
    no training rating for; None if there is no such user. A relevant item unknown to the model counts as missed.
    """
    predicted_N = predict(model, test)
    variance_N = model.variance(test.users_N, test.items_N)
    rated = _ranking(model, by_rating(model), test, seen)
    ndcg10, recall10 = rated if head is None else _ranking(model, by_relevance(head), test, seen)
    pooled, actual_N = test.communicator.pooled, test.ratings_N
    coverage = nll = None
    intervals = model.intervals(test.users_N, test.items_N)
    if variance_N is not None and intervals is not None:
        coverage = pooled(metrics.coverage(*intervals, actual_N), len(test))
        nll = pooled(metrics.nll(predicted_N, variance_N, actual_N), len(test))
    return {
        "rmse": _rmse(test, predicted_N),
        "mae": pooled(metrics.mae(predicted_N, actual_N), len(test)),
        "rmse_clipped": _rmse(test, predicted_N.clamp(*test.scale)),
        "user_rmse": pooled(metrics.user_rmse(predicted_N, actual_N, test.users_N), len(test.users_N.unique())),
        "coverage90": coverage,
        "nll": nll,
        "ndcg10": ndcg10,
        "recall10": recall10,
        "ndcg10_rating": rated[0],
    }


def _ranking(
    model: MatrixFactorization, ordering: BilinearForm, test: TestSet, seen: TrainingRatings
) -> tuple[float | None, float | None]:
    """NDCG@10 and recall@10 of the lists in an order that has the model's users and items."""
    relevant_N = (test.ratings_N >= test.relevant) & (test.users_N < model.users)
    users_M, items_M = test.users_N[relevant_N], test.items_N[relevant_N]
    users_U, counts_U = users_M.unique(return_counts=True)
    if test.communicator.total(len(users_U)) == 0:
        return None, None
    pairs_M = users_M * (model.items + 1) + items_M
    ndcg_U, recall_U = [], []
    for users_B, counts_B in zip(users_U.split(USERS_PER_BATCH), counts_U.split(USERS_PER_BATCH), strict=True):
        top_BK = top_items(ordering, users_B, LIST_LENGTH, excluded=seen.rows(users_B))
        hits_BK = torch.isin(users_B[:, None] * (model.items + 1) + top_BK, pairs_M) & (top_BK >= 0)
        ndcg_U.append(metrics.ndcg(hits_BK, counts_B))
        recall_U.append(metrics.recall(hits_BK, counts_B))
    means = (float(torch.cat(ndcg_U).mean()), float(torch.cat(recall_U).mean()))
    return test.communicator.pooled(means[0], len(users_U)), test.communicator.pooled(means[1], len(users_U))
