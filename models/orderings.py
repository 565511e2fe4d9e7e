"""The orderings of items for a user: by expected rating, by its lower bound, by relevance, by popularity.

An ordering is a `BilinearForm`, whose scores are compared. This module does not know how lists are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.scoring import BilinearForm, Side

RATING, LOWER_BOUND, RELEVANCE = "rating", "lower_bound", "relevance"


def orderings(model: MatrixFactorization, head: RelevanceHead | None) -> Mapping[str, BilinearForm]:
    """Every ordering of a model and its head, by its name in `rank_by`."""
    named = {RATING: by_rating(model)}
    if model.user_variance is not None:
        named[LOWER_BOUND] = by_lower_bound(model)
    if head is not None:
        named[RELEVANCE] = by_relevance(head)
    return named


def default_order(names: Iterable[str]) -> str:
    """The default ordering of lists: relevance if the model has it, else the rating."""
    return RELEVANCE if RELEVANCE in names else RATING


def by_rating(model: MatrixFactorization) -> BilinearForm:
    """Order by the expected rating r̂, unclipped."""
    return model.form()


def by_lower_bound(model: MatrixFactorization) -> BilinearForm:
    """Order by r̂ − 1.645·√(user_variance + item_variance).

    That is the lower end of the central 90 % interval of the expected rating. The variance of ratings around their
    expectation (`noise_variance`) is left out: it is the same for every item.
    """
    form = model.form()
    return replace(
        form,
        users=replace(form.users, variance=model.user_variance),
        items=replace(form.items, variance=model.item_variance),
    )


def by_relevance(head: RelevanceHead) -> BilinearForm:
    """Order by the score of the relevance head."""
    return BilinearForm(Side(head.user_factors), Side(head.item_factors))


def by_popularity(counts_I: Tensor) -> BilinearForm:
    """Order by the number of ratings, int32 (I,), the same for every user. Counts above 2²⁴ are rounded to float32."""
    counts = torch.cat([counts_I, counts_I.new_zeros(1)]).float()
    return BilinearForm(Side(None), Side(counts.new_zeros(len(counts), 0), counts))
