"""A short fit of every variant of a model on a part of the training ratings; the rest says how to combine them.

Two more models are fitted to that part: the spectral model and the baseline, whose fit is given.

Shapes: V variants, N held-out ratings, M models: the variants, then the spectral model and the baseline.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.mf import CENTRAL_90, VARIANCES, MatrixFactorization
from training.communicator import Communicator, Span
from training.fit.ensemble import Ensemble, Sample, Variant, fewer
from training.fit.inner_split import inner_split
from training.fit.kernels.posterior import Spread, draw_probes, predicted
from training.fit.spectral import CANDIDATES, Spectral
from training.fit.stack import weights
from training.fit.trainer import TrainingSet

log = logging.getLogger(__name__)

LEAST_SWEEPS = 4
LEAST = 100  # held-out ratings; fewer say nothing of the models
CHAINS = 1 << 20  # the number of the first chain, which the fit itself does not reach
KEPT = 0.6  # of the sweeps, the last ones
# Heavy tails take long to show what they are worth: on inner tenths of MovieLens-100K, effects with heavy tails had an
# RMSE 0.002 to 0.004 below effects without after 40 sweeps, 0.012 to 0.014 after 100. Of many ratings a sweep takes
# long, and tells more.
MANY, SHORTEST = 400_000, 0.27  # ratings that have fewer sweeps, and what share of them at least
# A variant of `BEHIND` times the least squared error, over the second half of the first `EARLY` sweeps, is left out.
EARLY, BEHIND = 0.3, 1.02
LEAST_NOISE = 1e-12  # in squared ratings
MOST_SCALE = 4.0  # by which the variances are corrected, or divided
# Prior of a correction, in variances of an error over its own: that many ratings weigh as much as the prior.
DOUBT = np.array([400.0, 25.0, 25.0])
COLD = 1.0  # ratings at which half of a correction of cold rows is left


class Learned(NamedTuple):
    """What held-out ratings say of the models, all float64 and in units of the ratings.

    Attributes:
        weights_V: of the variants' samples; with the next two they sum to 1.
        spectral, baseline: the weights of the spectral model and of the bias model.
        features: how many the spectral model has.
        corrections_3: what is added to every prediction, and times COLD/(COLD + n) to that for a user, and an item,
            with n training ratings.
        scale: of the variances.
        deviations_2: see `MatrixFactorization.interval_deviations`.
    """

    weights_V: Tensor
    spectral: Tensor
    baseline: Tensor
    features: Tensor
    corrections_3: Tensor
    scale: Tensor
    deviations_2: Tensor

    @classmethod
    def nothing(cls, variants: int) -> Self:
        """Equal weights and no corrections."""
        double = torch.float64
        zero, one = torch.zeros((), dtype=double), torch.ones((), dtype=double)
        equal_V = torch.full((variants,), 1 / variants, dtype=double)
        ends_2 = torch.full((2,), CENTRAL_90, dtype=double)
        return cls(equal_V, zero, zero, zero, torch.zeros(3, dtype=double), one, ends_2)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        return cls(**{name: state[name].cpu().clone() for name in cls._fields})

    def corrected(self, model: MatrixFactorization, data: TrainingSet) -> MatrixFactorization:
        """The mean of the models with the corrections for these ratings."""
        cold_U, cold_I = cold(data)
        offset, of_user, of_item = self.corrections_3.tolist()
        variances = {name: float(self.scale) * getattr(model, name) for name in VARIANCES[:3]}
        return replace(
            model,
            mean=model.mean + offset,
            user_bias=model.user_bias + of_user * cold_U,
            item_bias=model.item_bias + of_item * cold_I,
            interval_deviations=self.deviations_2.float().to(model.device),
            **variances,
        )


class Trial:
    """Fits a chain of every variant to a part of the ratings (implements `training.fit.loop.Fit`)."""

    def __init__(
        self,
        data: TrainingSet,
        variants: Sequence[Variant],
        factors: int,
        sweeps: int,
        seed: int,
        baseline: Callable[[TrainingSet], MatrixFactorization],
    ) -> None:
        self._fit_baseline = baseline
        self.data, held_out_N = inner_split(data, seed)
        self.epochs = max(fewer(sweeps, data.total() / MANY, SHORTEST), LEAST_SWEEPS)
        self.ensemble = Ensemble(self.data, variants, factors, seed, first=CHAINS)
        self._users_N, self._items_N = data.users_N[held_out_N].long(), data.items_N[held_out_N].long()
        self._actual_N = data.ratings_N[held_out_N].double()
        self.held_out = data.communicator.total(len(self._actual_N))
        probes = (self.data.users_N, self.data.items_N, data.users, data.item_span, np.random.default_rng([seed, 3]))
        self._probes_2N = draw_probes(*probes)
        self._variants = len(variants)
        self._spreads = self._new_spreads()
        shape = (2, self._variants, len(self._actual_N))
        self._sums_2VN = torch.zeros(shape, dtype=torch.float64, device=data.device)
        self._tried = list(range(self._variants))
        self._kept_2 = torch.zeros(2, dtype=torch.float64, device=data.device)
        self._sweeps = 0

    def epoch(self) -> Mapping[str, Tensor]:
        losses = self.ensemble.sweep(self._sweeps, self._collect)
        self._sweeps += 1
        if self._sweeps == round(EARLY * self.epochs):
            self._leave_out()
        return {"loss": torch.stack(losses).mean() * self.ensemble.deviation.square()}

    def _collect(self, samples: Sequence[Sample]) -> None:
        early = round(EARLY * self.epochs)
        first, last = (early // 2, early) if self._sweeps < early else (round((1 - KEPT) * self.epochs), self.epochs)
        if self._sweeps < first:
            return
        half = int(2 * (self._sweeps - first) >= last - first)
        self._kept_2[half] += 1
        for variant, sample in zip(self._tried, samples, strict=True):
            user_UK, item_IK = sample.tables()
            every_IK = self.ensemble.all_items(item_IK)
            self._sums_2VN[half, variant] += predicted(user_UK, every_IK, self._users_N, self._items_N)
            self.ensemble.follow(sample, self._spreads[variant])

    def _leave_out(self) -> None:
        """Go on with the variants that may still count, and begin to count anew."""
        errors_VN = self._predicted().mean(0) - self._actual_N
        squares_V = self._sums(errors_VN.square().sum(1))
        kept = np.flatnonzero(squares_V <= BEHIND * squares_V.min()).tolist()
        for place in sorted(set(range(len(squares_V))) - set(kept)):
            log.info("trial: the model %s is left out, being far behind", self.ensemble.variants[place])
        self.ensemble.keep(kept)
        self._tried = [self._tried[place] for place in kept]
        self._sums_2VN.zero_()
        self._kept_2.zero_()
        self._spreads = self._new_spreads()

    def model(self) -> Learned:
        """What the held-out ratings say so far.

        A short chain's mean errs by its random draws too, which a long one's does not. The two halves of its sweeps
        have hardly any of them in common, so the product of their errors stands for the square of its error.
        """
        features, others_2N = self._others()
        predicted_2MN = torch.cat([self._predicted(), others_2N.expand(2, -1, -1)], dim=1)
        errors_2MN = predicted_2MN - self._actual_N
        errors_MN, drawn_MN = errors_2MN.mean(0), (errors_2MN[0] - errors_2MN[1]) / 2
        drawn_M = self._sums(drawn_MN.square().sum(1))
        products_MM = self._sums(errors_MN @ errors_MN.T) - np.diag(drawn_M)
        weight_M = self._weights(products_MM)
        self._log(products_MM, weight_M)
        error_N = torch.from_numpy(weight_M).to(errors_MN.device) @ errors_MN
        cold_3N = self._cold()
        normal_33 = self._sums(cold_3N @ cold_3N.T) + np.diag(DOUBT)
        correction_3 = np.linalg.solve(normal_33, self._sums(cold_3N @ -error_N))
        error_N = error_N + torch.from_numpy(correction_3).to(error_N.device) @ cold_3N
        weight_V = np.zeros(self._variants)
        weight_V[self._tried] = weight_M[:-2]
        variance_N, drawn = self._variance(weight_V), float(weight_M**2 @ drawn_M) / self.held_out
        scale = float(self._sums(((error_N.square() - drawn) / variance_N).sum())) / self.held_out
        scale = min(max(scale, 1 / MOST_SCALE), MOST_SCALE)
        standardised_N = _everywhere(-error_N / (scale * variance_N + drawn).sqrt(), self.data.communicator)
        low, high = torch.quantile(standardised_N, standardised_N.new_tensor([0.05, 0.95])).tolist()
        found = (weight_V, *weight_M[-2:], features, correction_3, scale, [max(-low, 0.0), max(high, 0.0)])
        return Learned(*(torch.as_tensor(value, dtype=torch.float64) for value in found))

    def states(self) -> dict[int, dict[str, Tensor]]:
        """Of the chain of each variant that has not been left out."""
        return {variant: chain.state() for variant, chain in zip(self._tried, self.ensemble.chains, strict=True)}

    def _new_spreads(self) -> list[Spread]:
        data = self.data
        return [Spread(self._probes_2N, data.users, data.items, data.communicator) for _ in range(self._variants)]

    def _predicted(self) -> Tensor:
        """What each variant still there predicts for the held-out pairs after either half of the sweeps, (2, V, N)."""
        counts_211 = self._kept_2.clamp(min=1)[:, None, None]
        return self.ensemble.mean + self.ensemble.deviation * self._sums_2VN[:, self._tried] / counts_211

    def _others(self) -> tuple[int, Tensor]:
        """How many features are best, and what the spectral model with these and the baseline predict, (2, N).

        More are tried as long as they are better than fewer.
        """
        pairs = self._users_N, self._items_N
        baseline = self._fit_baseline(self.data)
        spectral = Spectral(self.data, baseline, max(CANDIDATES))
        least, features, predicted_N = math.inf, 0, baseline(*pairs).double()
        for more in CANDIDATES:
            candidate_N = spectral.model(more)(*pairs).double()
            squares = float(self._sums((candidate_N - self._actual_N).square().sum()))
            if squares >= least:
                break
            least, features, predicted_N = squares, more, candidate_N
        return features, torch.stack([predicted_N, baseline(*pairs).double()])

    def _weights(self, products_MM: np.ndarray) -> np.ndarray:
        """Those of the models; the bias model alone if the mean would be behind it."""
        values_M, vectors_MM = np.linalg.eigh(products_MM)
        products_MM = vectors_MM * values_M.clip(min=0) @ vectors_MM.T
        noise = max(products_MM.diagonal().min() / self.held_out, LEAST_NOISE)
        weight_M = weights(products_MM, noise)
        behind = weight_M @ products_MM @ weight_M > products_MM[-1, -1]
        return np.eye(len(weight_M))[-1] if behind else weight_M

    def _log(self, products_MM: np.ndarray, weight_M: np.ndarray) -> None:
        names = [*map(str, self.ensemble.variants), "on spectral features", "of biases alone"]
        for name, squares, weight in zip(names, products_MM.diagonal(), weight_M, strict=True):
            error = math.sqrt(max(squares, 0.0) / self.held_out)
            log.info("trial: the model %s has an RMSE of %.4f; its weight is %.0f %%", name, error, 100 * weight)

    def _sums(self, values: Tensor) -> np.ndarray:
        """Of all ranks."""
        return self.data.communicator.sum(values).cpu().numpy()

    def _cold(self) -> Tensor:
        """What each of the corrections is multiplied with, (3, N)."""
        cold_U, cold_I = cold(self.data)
        return torch.stack(
            [torch.ones_like(self._actual_N), cold_U[self._users_N].double(), cold_I[self._items_N].double()]
        )

    def _variance(self, weight_V: np.ndarray) -> Tensor:
        """Of the held-out ratings around the mean of the variants, as it will be published, (N,)."""
        shares = weight_V if weight_V.sum() > 0 else np.isin(np.arange(self._variants), self._tried).astype(float)
        spread = Spread(self._probes_2N, self.data.users, self.data.items, self.data.communicator)
        for variant, share in enumerate(shares.tolist()):
            spread.add_all(self._spreads[variant], share)
        common, user_U, item_I = spread.variances()
        variance_N = common + user_U[self._users_N] + item_I[self._items_N]
        return variance_N.double() * self.ensemble.deviation.square()


def cold(data: TrainingSet) -> tuple[Tensor, Tensor]:
    """How cold each user and item is, from 1 without ratings down to 0, float32, (U+1,) and (I+1,)."""
    counts = (data.user_counts(), data.item_totals())
    cold_U, cold_I = (COLD / (COLD + torch.cat([count_R, count_R.new_zeros(1)]).float()) for count_R in counts)
    return cold_U, cold_I


def _everywhere(values_N: Tensor, communicator: Communicator) -> Tensor:
    """The numbers of all ranks, in order of the ranks."""
    counts = torch.zeros(communicator.size, dtype=torch.int64)
    counts[communicator.rank] = len(values_N)
    bounds = communicator.sum(counts).cumsum(0).tolist()
    return communicator.gathered(values_N[:, None], Span((0, *bounds), communicator.rank))[:, 0]
