"""Bayesian matrix factorization by Gibbs sampling, published as the posterior mean (Salakhutdinov and Mnih 2008).

It is an average of variants, with and without implicit effects and heavy tails, all of one model: a Bayesian SVD++ in
both directions; see `training.fit.kernels.gibbs`. With them is averaged a regression on who rated what
(`training.fit.spectral`). A trial on a part of the ratings says what each of these models is worth.
Shapes: U users, I items, K table width (factors, then bias), N training ratings, V variants.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization
from training.errors import ConfigError
from training.fit.ensemble import Ensemble, Sample, Variant, fewer, under
from training.fit.kernels.gibbs_cpu import compile_for
from training.fit.kernels.posterior import PROBES, Mean, Spread, draw_probes
from training.fit.kernels.tiles import padded_width
from training.fit.spectral import CANDIDATES, Spectral
from training.fit.trainer import Trainer, TrainerSettings, TrainingSet
from training.fit.trainers.bias import bias_model
from training.fit.trial import LEAST, Learned, Trial

log = logging.getLogger(__name__)

# On tenths held out of training parts, 15, 23, 31 and 39 factors have an RMSE of 0.8226, 0.8190, 0.8180 and 0.8171 on
# MovieLens-1M, which has 92 ratings for each user or item. On MovieLens-100K, which has 34, 15 and 23 are equal within
# 0.001, and 15 take 0.6 of the time.
FEWEST, MOST, BASE, PER_RATING = 15, 39, 5, 0.34
MANY, LEAST_SAMPLES = 1_000_000, 0.65  # ratings that have fewer samples, and what share of them at least
Choice = Literal["auto", "yes", "no"]
SIDES: dict[Literal["user", "item", "other"], tuple[str, ...]] = {  # of the tensors of a posterior
    "user": ("mean.left", "mean.user_bias"),
    "item": ("mean.right", "mean.item_bias"),
    "other": ("spread.probes", "spread.moments"),
}
BY_ROW = ("table_RK", "effect_RK", "shift_RK", "weight_R")  # of the tensors of a chain


class BayesSettings(TrainerSettings):
    """Settings of `bayes`. Ratings are standardised before they are fitted, so none of these depends on their scale.

    `factors` is rounded up to one less than a multiple of 8: a row of factors and bias then fills whole vectors. 0 is
    as many as the number of ratings bears. `effects` and `heavy_tails` say which variants there are: `auto` has both,
    and lets the trial decide. `freedom` is that of the errors' t-like distribution, a weight for each user and each
    item. `trial` is the number of its sweeps, of many ratings fewer. 0 is no trial: then variants count equally,
    without the spectral model, and nothing is corrected. `samples` are kept of each chain, of many ratings fewer; if
    the variants need more than `chains`, as much fewer of each.
    """

    factors: int = Field(
        default=0,
        ge=0,
        le=255,
        description="numbers that describe each user and each item; 0: as many as the ratings bear",
    )
    chains: int = Field(default=2, ge=1, le=64, description="samplers that run side by side")
    trial: int = Field(default=150, ge=0, description="sweeps of the trial that weights the models; 0: no trial")
    burn_in: int = Field(default=20, ge=0, description="sweeps that are thrown away at the start of a chain")
    samples: int = Field(default=130, ge=1, description="samples that are kept of each chain")
    rank: int = Field(
        default=32, ge=1, description="most factors of the published model, which is the mean of all samples"
    )
    effects: Choice = Field(default="auto", description="whether which items a user has rated counts too")
    heavy_tails: Choice = Field(default="auto", description="whether each user and item has errors of its own size")
    user_freedom: float = Field(
        default=60.0, gt=0, description="how alike the errors of users are: the larger, the more"
    )
    item_freedom: float = Field(default=60.0, gt=0, description="how alike the errors of items are")

    def variants(self) -> list[Variant]:
        """What there is to choose from, the richest first."""
        return [
            Variant(implicit, *((self.user_freedom, self.item_freedom) if heavy else (0.0, 0.0)))
            for implicit in _both(self.effects)
            for heavy in _both(self.heavy_tails)
        ]

    def width(self, users: int, items: int, ratings: int) -> int:
        """K: at least that of the factors, of which there are as many as the ratings bear."""
        return padded_width(self.factors or factors_for(users, items, ratings))


def factors_for(users: int, items: int, ratings: int) -> int:
    """How many factors the ratings bear: more where rows have more of them, and no more than there are rows."""
    bearable = BASE + PER_RATING * ratings / max(1, users + items)
    return max(FEWEST, min(MOST, round(bearable / 8) * 8 - 1))


def _both(choice: Choice) -> list[bool]:
    return {"auto": [True, False], "yes": [True], "no": [False]}[choice]


class Bayes(Trainer[BayesSettings]):
    """An epoch is one sweep of every chain. During burn-in the model is the present sample, then the mean since."""

    Settings = BayesSettings
    distributes = True
    shares_chains = True
    uses_attributes = True
    uses_weights = True

    def __init__(self, data: TrainingSet, settings: BayesSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self._seed = int(rng.integers(2**63))
        self._width = settings.width(data.user_span.total, data.items, data.total())
        sampled = data.sampled
        self._probes_2N = draw_probes(sampled.users_N, sampled.items_N, sampled.users, sampled.item_span, rng)
        self._variants, self._sweeps = settings.variants(), 0
        self._earlier: MatrixFactorization | None = None
        self._learn(Learned.nothing(len(self._variants)), data.sharers.size)
        if data.device.type == "cpu":
            compile_for(self._width, weighted=data.weights_N is not None)

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: BayesSettings) -> int:
        """The ratings as given, standardised and grouped by user and by item, the chains, and the sums over samples.

        For the spectral model, the matrix of who rated what, by user and by item, and its features.
        """
        rows, width = users + items, settings.width(users, items, ratings)
        grouped = (12 + 4 + 2 * 8 + 2 * 20) * ratings + 4 * 4 * max(CANDIDATES) * rows
        sweep = max(users, items) * (2 * width * width + 10 * width)  # Gram matrices, their factors, and tables
        chains = 4 * len(planned(settings, [1.0] * len(settings.variants()))) * (sweep + rows * 8 * width)
        columns = 2 * settings.rank + 9 * width
        posterior = 4 * rows * 3 * columns + 8 * 4 * PROBES * rows
        return grouped + chains + posterior

    def trial(self) -> Trial | None:
        settings = self.settings
        if settings.trial == 0:
            return None
        trial = Trial(self.data, self._variants, self._width - 1, settings.trial, self._seed, bias_model)
        if trial.held_out < LEAST:
            log.info("there are too few ratings for a trial: all variants of the model count equally")
            return None
        if self._earlier is not None:
            trial.ensemble.start_from(self._earlier)
        return trial

    def learn(self, trial: Trial) -> None:
        """Every chain goes on from one of its variant in the trial."""
        self._learn(trial.model(), self.data.sharers.size)
        states = trial.states([variant for variant, _ in self._plan])
        for chain, number in zip(self._ensemble.chains, self._ensemble.here, strict=True):
            state = states[number]
            if state is not None:
                chain.go_on_from(state)

    def _learn(self, learned: Learned, least: int) -> None:
        """Begin again, with chains of the variants that count, at least so many."""
        settings = self.settings
        self.learned, self._plan = learned, planned(settings, learned.weights_V.tolist(), least)
        samples = fewer(settings.samples, self.data.total() / MANY, LEAST_SAMPLES)
        self.epochs = settings.burn_in + math.ceil(samples * settings.chains / len(self._plan))
        variants = [self._variants[variant] for variant, _ in self._plan]
        self._ensemble = Ensemble(self.data, variants, self._width - 1, self._seed)
        self._empty()

    def _empty(self) -> None:
        sampled = self.data.sampled
        self._posterior = self._empty_mean(sampled)
        self._spread = Spread(self._probes_2N, sampled.users, sampled.items, sampled.communicator)

    def _empty_mean(self, data: TrainingSet) -> Mean:
        rank, block = 2 * self.settings.rank, 8 * (self._width - 1)
        return Mean(*data.local, data.device, rank=rank, block=block)

    def epoch(self) -> Mapping[str, Tensor]:
        losses = self._ensemble.sweep(self._sweeps, self._collect)
        self._sweeps += 1
        variance = self._ensemble.deviation.square()
        noise = (variance / self._ensemble.precision).sqrt()
        return {"loss": torch.stack(losses).mean() * variance, "noise_deviation": noise}

    def _collect(self, samples: Sequence[Sample]) -> None:
        """Add each chain's present state to the posterior, which is empty until the burn-in is over."""
        if self._sweeps <= self.settings.burn_in:
            self._empty()
        for sample, number in zip(samples, self._ensemble.here, strict=True):
            _, weight = self._plan[number]
            self._posterior.add(*sample.tables(), weight)
            self._ensemble.follow(sample, self._spread, weight)

    def model(self) -> MatrixFactorization:
        """The mean, corrected as the trial says; before the first sweep that of where the chains start."""
        mean, ensemble, data = self._posterior, self._ensemble, self.data
        if self._sweeps == 0:
            mean = self._empty_mean(data.sampled)
            for sample, number in zip(ensemble.samples(0), ensemble.here, strict=True):
                mean.add(*sample.tables(), self._plan[number][1])
        rank, learned = self.settings.rank, self.learned
        combined = self._empty_mean(data)
        combined.add(*self._of_all(mean, data).tables(2 * rank), float(learned.weights_V.sum()))
        if learned.spectral:
            combined.add(*self._standardised(self._spectral), float(learned.spectral))
        if learned.baseline:
            combined.add(*self._standardised(self._baseline), float(learned.baseline))
        root, deviation = ensemble.deviation.sqrt().float(), ensemble.deviation.float()
        user_UK, item_IK = combined.tables(rank)
        item_IK = data.all_items(item_IK)
        common, user_U, item_I = self._spread.of_all(data.sharers).variances()
        model = MatrixFactorization(
            ensemble.mean.float(),
            user_UK[:, :-1] * root,
            item_IK[:, :-1] * root,
            user_UK[:, -1] * deviation,
            item_IK[:, -1] * deviation,
            *(variance * deviation.square() for variance in (common, data.users_of(user_U), item_I)),
        )
        return learned.corrected(model, data)

    def _of_all(self, mean: Mean, data: TrainingSet) -> Mean:
        """The mean of the samples of all ranks that share the chains, for the rows that `data` has here."""
        sharers = self.data.sharers
        if sharers.size == 1:
            return mean
        together, empty = self._empty_mean(data), mean.weight == 0
        tables = None if empty else (*mean.tables(2 * self.settings.rank), mean.weight)
        for user_UK, item_IK, weight in filter(None, sharers.all_objects(tables)):
            together.add(data.users_of(user_UK), data.items_of(item_IK), weight)
        return together

    @cached_property
    def _baseline(self) -> MatrixFactorization:
        return bias_model(self.data)

    @cached_property
    def _spectral(self) -> MatrixFactorization:
        features = int(self.learned.features)
        return Spectral(self.data, self._baseline, features).model(features)

    def _standardised(self, model: MatrixFactorization) -> tuple[Tensor, Tensor]:
        """The tables of a model of these ratings' mean, of users and items here, as those of a sample."""
        root, deviation = self._ensemble.deviation.sqrt().float(), self._ensemble.deviation.float()
        span = self.data.item_span
        here_I = torch.tensor([*range(span.start, span.stop), self.data.items], device=self.data.device)
        return (
            torch.cat([model.user_factors / root, model.user_bias[:, None] / deviation], dim=1),
            torch.cat([model.item_factors / root, model.item_bias[:, None] / deviation], dim=1)[here_I],
        )

    def warm_start(self, model: MatrixFactorization) -> bool:
        """Every chain starts at the earlier model; during the burn-in, which may be shorter, noise parts them again."""
        self._earlier = model
        self._ensemble.start_from(model)
        return True

    def state(self) -> Mapping[str, Tensor]:
        mean, spread = self._of_all(self._posterior, self.data.sampled), self._spread.of_all(self.data.sharers)
        parts = {"mean": mean.state(), "spread": spread.state(), "learned": self.learned._asdict()}
        counters = {"seed": torch.tensor(self._seed), "sweeps": torch.tensor(self._sweeps)}
        named = {f"{part}.{name}": table for part, state in parts.items() for name, table in state.items()}
        return self._ensemble.state() | named | counters

    @classmethod
    def side_of(cls, name: str) -> Literal["user", "item", "other"] | None:
        if name.startswith("chain"):
            _, _, field = name.partition(".")
            return super().side_of(field) if field.endswith(BY_ROW) else None
        return next((side for side, names in SIDES.items() if name in names), None)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._seed, self._sweeps = int(state["seed"]), int(state["sweeps"])
        chains, ranks = len({name.partition(".")[0] for name in state if name.startswith("chain")}), self.data.sharers
        if chains < ranks.size:
            raise ConfigError(f"the saved fit has {chains} chains: {chains} ranks at most can go on with it")
        self._probes_2N = state["spread.probes"]
        self._learn(Learned.of(under("learned.", state)), chains)
        self._ensemble.restore(state)
        if ranks.first:  # the sums of all ranks count once
            self._posterior.restore(under("mean.", state))
            self._spread.restore(under("spread.", state))


def planned(settings: BayesSettings, weights_V: Sequence[float], least: int = 1) -> list[tuple[int, float]]:
    """The variant and the weight of each chain: a multiple of `chains`, more of a variant that counts more.

    If there are to be at least as many as are more than `chains`, it is a multiple of that.
    """
    if not any(weights_V):  # the bias model alone is published; the simplest variant tells its variances
        weights_V = [0.0] * (len(weights_V) - 1) + [1.0]
    counts_V = [int(weight > 0) for weight in weights_V]
    while sum(counts_V) % max(settings.chains, least):
        most = max(range(len(weights_V)), key=lambda variant: weights_V[variant] / (1 + counts_V[variant]))
        counts_V[most] += 1
    return [
        (variant, weight / count / sum(weights_V))
        for variant, (weight, count) in enumerate(zip(weights_V, counts_V, strict=True))
        for _ in range(count)
    ]
