"""The arithmetic of predictions: one gather-dot a batch, clipped. It knows row numbers, not ids.

Shapes: U users, I items, F factors, B pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from models.mf import MatrixFactorization
from models.ranking import by_rating
from models.scoring import dot, dot_all, dot_rows
from models.sharding import Sharded

Rows = npt.NDArray[np.int64]
Ratings = npt.NDArray[np.float32]

CHUNK = 1024  # pairs at a time: their rows of 64 factors are 256 kB a side and stay in a second-level cache


class Scorer:
    """Predicts with one model on the model's devices. Bits depend on the pair alone, not on what it is asked with.

    Args:
        model: the tables; their last rows stand for unknown ids.
        scale: the lowest and the highest rating.
        rating: the model's order by rating, as its items lie on devices; None where all are on the model's.
    """

    def __init__(self, model: MatrixFactorization, scale: tuple[float, float], rating: Sharded | None = None) -> None:
        self.scale = scale
        self._rating = Sharded.whole(by_rating(model)) if rating is None else rating
        self.on_cpu = self._rating.users is None and model.device.type == "cpu"
        self._low, self._high = (np.float32(bound) for bound in scale)
        if self.on_cpu:
            self._p_UF, self._q_IF = model.user_factors.numpy(), model.item_factors.numpy()
            self._b_U, self._b_I, self._mean = model.user_bias.numpy(), model.item_bias.numpy(), model.mean.numpy()[()]

    def predict_pair(self, user: int, item: int) -> float:
        """Rating of one pair: the same bits as `predict` gives, in a quarter of its time."""
        if not self.on_cpu:
            return float(self._predict_on_device(np.array([user]), np.array([item]))[0])
        rating = dot(self._p_UF[user], self._q_IF[item]) + self._b_U[user] + self._b_I[item] + self._mean
        return float(min(max(rating, self._low), self._high))

    def predict_row(self, user: int, items_N: Rows) -> Ratings:
        """Rating of some items for one user, clipped to the scale, float32, (N,): the same bits as `predict` gives."""
        if not self.on_cpu:
            return self._predict_on_device(np.full(len(items_N), user), items_N)
        ratings_N = dot_all(self._p_UF[user], self._q_IF.take(items_N, 0))
        ratings_N += self._b_U[user]
        return self._finish(ratings_N, items_N)

    def predict_folded(self, factors_F: Ratings, bias: np.float32, items_N: Rows) -> Ratings:
        """As `predict_row`, for a user whose row is given."""
        if not self.on_cpu:
            rating = self._rating.of_user(torch.from_numpy(factors_F), float(bias), None)
            return self._predict_on_device(np.zeros_like(items_N), items_N, rating)
        ratings_N = dot_all(factors_F, self._q_IF.take(items_N, 0))
        ratings_N += bias
        return self._finish(ratings_N, items_N)

    def predict(self, users_B: Rows, items_B: Rows) -> Ratings:
        """Rating of each pair, clipped to the scale, float32, (B,)."""
        if not self.on_cpu:
            return self._predict_on_device(users_B, items_B)
        if len(users_B) <= CHUNK:
            return self._predict_chunk(users_B, items_B)
        starts = range(0, len(users_B), CHUNK)
        return np.concatenate(
            [self._predict_chunk(users_B[at : at + CHUNK], items_B[at : at + CHUNK]) for at in starts]
        )

    def _predict_chunk(self, users_B: Rows, items_B: Rows) -> Ratings:
        """`MatrixFactorization.forward` in numpy, the sums in its order: torch's calls take longer than a pair does."""
        ratings_B = dot_rows(self._p_UF.take(users_B, 0), self._q_IF.take(items_B, 0))
        ratings_B += self._b_U.take(users_B)
        return self._finish(ratings_B, items_B)

    def _finish(self, ratings_B: Ratings, items_B: Rows) -> Ratings:
        """What comes after the dot product and the user's bias, in place."""
        ratings_B += self._b_I.take(items_B)
        ratings_B += self._mean
        np.maximum(ratings_B, self._low, out=ratings_B)
        np.minimum(ratings_B, self._high, out=ratings_B)
        return ratings_B

    @torch.inference_mode()
    def _predict_on_device(self, users_B: Rows, items_B: Rows, rating: Sharded | None = None) -> Ratings:
        """`rating` is that of a user whose row is given; else the model's."""
        rating = rating or self._rating
        rows_2B = torch.from_numpy(np.stack([users_B, items_B])).to(rating.device)
        ratings: Ratings = rating.exact(*rows_2B).clamp(*self.scale).cpu().numpy()
        return ratings
