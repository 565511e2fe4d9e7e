"""Scores of whole catalogues by one matrix product, as the contenders of `models.search` make them."""

from __future__ import annotations

import torch
from torch import Tensor

from models.mf import MatrixFactorization


def all_products(model: MatrixFactorization, users_B: Tensor) -> Tensor:
    """The rating of every item for each user as one matrix product gives it, shape (B, I)."""
    offset_B1 = (model.user_bias[users_B] + model.mean)[:, None]
    items_FI = model.item_factors[:-1].T
    return torch.addmm(model.item_bias[:-1][None, :], model.user_factors[users_B], items_FI) + offset_B1
