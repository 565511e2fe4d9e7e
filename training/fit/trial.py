"""A short fit of every variant of a model on a part of the training ratings; the rest says how to combine them.

Two more models are fitted to that part: the spectral model and the baseline, whose fit is given. Ranks that share the
chains meet twice: where variants are left out, and at the end.

Shapes: V variants, N held-out ratings here, H those of all ranks that share the chains, M models: the variants, then
the spectral model and the baseline.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.mf import CENTRAL_90, VARIANCES, MatrixFactorization
from training.communicator import Communicator
from training.fit.ensemble import Ensemble, Sample, Variant, fewer, sources
from training.fit.inner_split import held_out_rows, inner_split
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
        self._variants, self._tried = variants, list(range(len(variants)))
        chains = max(len(variants), data.sharers.size)  # each rank has one: if variants are fewer, some have several
        self._of_chain = list(islice(cycle(self._tried), chains))
        sweeps = max(fewer(sweeps, data.total() / MANY, SHORTEST), LEAST_SWEEPS)
        self._early, self._burn_in = round(EARLY * sweeps), round((1 - KEPT) * sweeps)
        self.epochs = self._burn_in + math.ceil((sweeps - self._burn_in) * len(variants) / chains)
        self.ensemble = Ensemble(self.data, [variants[each] for each in self._of_chain], factors, seed, CHAINS)
        self._users_N, self._items_N = data.users_N[held_out_N].long(), data.items_N[held_out_N].long()
        self._actual_N = data.ratings_N[held_out_N].double()
        self.held_out = data.communicator.total(len(self._actual_N))
        self._pairs_2H, self._here_H = self._pairs(data, seed)
        sampled, rng = self.data.sampled, np.random.default_rng([seed, 3])
        self._probes_2N = draw_probes(sampled.users_N, sampled.items_N, sampled.users, sampled.item_span, rng)
        self._spreads = self._new_spreads()
        shape = (2, len(variants), self._pairs_2H.shape[1])
        self._sums_2VH = torch.zeros(shape, dtype=torch.float64, device=data.device)
        self._kept_2V = torch.zeros(shape[:2], dtype=torch.float64, device=data.device)
        self._sweeps = 0

    def epoch(self) -> Mapping[str, Tensor]:
        losses = self.ensemble.sweep(self._sweeps, self._collect)
        self._sweeps += 1
        if self._sweeps == self._early:
            self._leave_out()
        if losses:  # a rank may be left without a chain
            self._loss = torch.stack(losses).mean() * self.ensemble.deviation.square()
        return {"loss": self._loss}

    def _collect(self, samples: Sequence[Sample]) -> None:
        early = self._early
        first, last = (early // 2, early) if self._sweeps < early else (self._burn_in, self.epochs)
        if self._sweeps < first:
            return
        half = int(2 * (self._sweeps - first) >= last - first)
        for number, sample in zip(self.ensemble.here, samples, strict=True):
            variant = self._of_chain[number]
            user_UK, item_IK = sample.tables()
            every_IK = self.ensemble.data.all_items(item_IK)
            self._kept_2V[half, variant] += 1
            self._sums_2VH[half, variant] += predicted(user_UK, every_IK, *self._pairs_2H)
            self.ensemble.follow(sample, self._spreads[variant])

    def _leave_out(self) -> None:
        """Go on with the variants that may still count, and begin to count anew."""
        errors_VN = self._predicted().mean(0) - self._actual_N
        squares_V = self._sums(errors_VN.square().sum(1))
        kept = np.flatnonzero(squares_V <= BEHIND * squares_V.min()).tolist()
        for place in sorted(set(range(len(squares_V))) - set(kept)):
            log.info("trial: the model %s is left out, being far behind", self._variants[self._tried[place]])
        self._tried = [self._tried[place] for place in kept]
        self.ensemble.keep([number for number, variant in enumerate(self._of_chain) if variant in self._tried])
        self._of_chain = [variant for variant in self._of_chain if variant in self._tried]
        self._sums_2VH.zero_()
        self._kept_2V.zero_()
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
        weight_V = np.zeros(len(self._variants))
        weight_V[self._tried] = weight_M[:-2]
        variance_N, drawn = self._variance(weight_V), float(weight_M**2 @ drawn_M) / self.held_out
        scale = float(self._sums(((error_N.square() - drawn) / variance_N).sum())) / self.held_out
        scale = min(max(scale, 1 / MOST_SCALE), MOST_SCALE)
        standardised_N = _everywhere(-error_N / (scale * variance_N + drawn).sqrt(), self.data.communicator)
        low, high = torch.quantile(standardised_N, standardised_N.new_tensor([0.05, 0.95])).tolist()
        found = (weight_V, *weight_M[-2:], features, correction_3, scale, [max(-low, 0.0), max(high, 0.0)])
        return Learned(*(torch.as_tensor(value, dtype=torch.float64) for value in found))

    def states(self, wanted: Sequence[int]) -> list[dict[str, Tensor] | None]:
        """For each wanted variant the state of a chain of it; None for one that has been left out."""
        states = self.ensemble.states()
        return [None if place is None else states[place] for place in sources(self._of_chain, wanted)]

    def _pairs(self, data: TrainingSet, seed: int) -> tuple[Tensor, Tensor | slice]:
        """What the chains here predict, int64 (2, H), and which of it is held out on this rank."""
        if data.everything is None:
            return torch.stack([self._users_N, self._items_N]), slice(None)
        everything, span = data.everything, data.user_span
        held_out_N = held_out_rows(everything, seed)
        users_H, items_H = everything.users_N[held_out_N].long(), everything.items_N[held_out_N].long()
        return torch.stack([users_H, items_H]), (users_H >= span.start) & (users_H < span.stop)

    def _new_spreads(self) -> list[Spread]:
        return [self._new_spread() for _ in self._variants]

    def _new_spread(self) -> Spread:
        sampled = self.data.sampled
        return Spread(self._probes_2N, sampled.users, sampled.items, sampled.communicator)

    def _predicted(self) -> Tensor:
        """What each variant still there predicts for the held-out pairs after either half of the sweeps, (2, V, N)."""
        ensemble, sharers = self.ensemble, self.data.sharers
        sums_2VN = sharers.sum(self._sums_2VH)[:, self._tried][..., self._here_H]
        counts_2V1 = sharers.sum(self._kept_2V)[:, self._tried, None].clamp(min=1)
        return ensemble.mean + ensemble.deviation * sums_2VN / counts_2V1

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
        variants = [str(self._variants[variant]) for variant in self._tried]
        names = [*variants, "on spectral features", "of biases alone"]
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
        shares = weight_V if weight_V.sum() > 0 else np.isin(np.arange(len(weight_V)), self._tried).astype(float)
        spread = self._new_spread()
        for variant, share in enumerate(shares.tolist()):
            spread.add_all(self._spreads[variant].of_all(self.data.sharers), share)
        common, user_U, item_I = spread.variances()
        variance_N = common + self.data.users_of(user_U)[self._users_N] + item_I[self._items_N]
        return variance_N.double() * self.ensemble.deviation.square()


def cold(data: TrainingSet) -> tuple[Tensor, Tensor]:
    """How cold each user and item is, from 1 without ratings down to 0, float32, (U+1,) and (I+1,)."""
    counts = (data.user_counts(), data.item_totals())
    cold_U, cold_I = (COLD / (COLD + torch.cat([count_R, count_R.new_zeros(1)]).float()) for count_R in counts)
    return cold_U, cold_I


def _everywhere(values_N: Tensor, communicator: Communicator) -> Tensor:
    """The numbers of all ranks, in order of the ranks."""
    return communicator.gathered(values_N[:, None], communicator.span(len(values_N)))[:, 0]
