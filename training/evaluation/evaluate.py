"""Measures a model on held-out ratings.

It refuses a test part that overlaps the training part. Shapes: N test ratings, L users with lists of K items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.orderings import RATING, RELEVANCE, default_order, orderings
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from training import metrics
from training.communicator import SINGLE_PROCESS, Communicator
from training.data.interactions import Interactions
from training.errors import OverlapError
from training.evaluation.lists import Relevant, hits, top_lists, variety

LISTED = (RATING, RELEVANCE)
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
    # Of 25 million pairs, Arrow's hash table takes 2 s; `np.isin` sorts them and takes 28.
    in_both_N = pc.is_in(pa.array(train.pairs_N()), value_set=pa.array(test.pairs_N()))
    shared = communicator.total(pc.sum(in_both_N).as_py() or 0)
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
    relevant, communicator = _relevant(model, test), test.communicator
    users_L = relevant.users_M.unique()
    lists = {name: top_lists(form, users_L, seen) for name, form in orderings(model, head).items() if name in LISTED}
    by_order = {name: hits(top_LK, relevant, model.items, communicator) for name, top_LK in lists.items()}
    order = default_order(lists)
    pooled, actual_N = communicator.pooled, test.ratings_N
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
        "ndcg10": by_order[order].ndcg,
        "recall10": by_order[order].recall,
        "ndcg10_rating": by_order[RATING].ndcg,
        **variety(lists[order], seen, model.items, communicator),
    }


def _relevant(model: MatrixFactorization, test: TestSet) -> Relevant:
    relevant_N = (test.ratings_N >= test.relevant) & (test.users_N < model.users)
    return Relevant(test.users_N[relevant_N], test.items_N[relevant_N])
