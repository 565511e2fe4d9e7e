"""What a fitted model says of rows it has not seen: learned once, when it is published, from the rows it has.

Shapes: U users, I items, F factors, K = F + 1, N training ratings, R rows of one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.training_ratings import TrainingRatings

LEAST_NOISE = 1e-6  # in squared ratings; a model without any error would make one rating outweigh everything known
PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class FoldInPrior:
    """The populations that users and items are taken from; their means are the model's rows for unknown ids.

    Attributes:
        noise: σ², the mean squared error of the training ratings, float32, ().
        user_covariance_KK: of the rows [p_u, b_u] of users with ratings around that of unknown ones, float32, (K, K).
        item_covariance_KK: of [q_i, b_i], likewise.
    """

    noise: Tensor
    user_covariance_KK: Tensor
    item_covariance_KK: Tensor

    @classmethod
    def learn(cls, model: MatrixFactorization, seen: TrainingRatings) -> FoldInPrior:
        """From a model and its training ratings. Tried beside it on MovieLens: `benchmarks/fold_in.py`."""
        device = model.device
        user_counts_U = seen.offsets.diff()[:-1].to(device)
        item_counts_I = torch.from_numpy(seen.counts(model.items)).to(device)
        return cls(
            _mean_squared_error(model, seen).clamp(min=LEAST_NOISE).float(),
            _covariance(model.user_factors, model.user_bias, user_counts_U),
            _covariance(model.item_factors, model.item_bias, item_counts_I),
        )

    def tensors(self) -> Mapping[str, Tensor]:
        """By name, as a checkpoint stores them."""
        return {
            "noise": self.noise,
            "user_covariance": self.user_covariance_KK,
            "item_covariance": self.item_covariance_KK,
        }

    def to(self, device: torch.device | str) -> FoldInPrior:
        return FoldInPrior(*(table.to(device) for table in self.tensors().values()))


def _covariance(factors_RF: Tensor, bias_R: Tensor, counts_R: Tensor) -> Tensor:
    """Mean of (x − m)(x − m)ᵀ over the rated rows, m being the row after the last."""
    rated = counts_R > 0
    table_RK = torch.cat([factors_RF, bias_R[:, None]], dim=1)
    width = table_RK.shape[1]
    sum_KK = torch.zeros(width, width, dtype=torch.float64, device=factors_RF.device)
    for part_RK in table_RK[:-1][rated].split(1 << 16):
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
