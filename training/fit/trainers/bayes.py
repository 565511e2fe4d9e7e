"""Bayesian matrix factorization by Gibbs sampling, published as the posterior mean (Salakhutdinov and Mnih 2008).

With `implicit` it is a Bayesian SVD++ in both directions, with `side_information` the prior knows the attributes; see
`training.fit.kernels.gibbs` for the model. Independent chains run side by side and their samples are averaged.
Shapes: U users, I items, K table width (factors, then bias), N training ratings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization
from training.communicator import LocalRows
from training.fit.kernels.collapse import ranked
from training.fit.kernels.gibbs import Chain, RandomStream, Rows, Side, start_effects, start_side
from training.fit.kernels.gibbs_cpu import CpuRows, compile_for
from training.fit.kernels.gibbs_torch import TorchRows
from training.fit.kernels.grouping import Triplets
from training.fit.kernels.posterior import PROBES, Posterior, draw_probes
from training.fit.kernels.tiles import padded_width
from training.fit.trainer import Trainer, TrainerSettings, TrainingSet

log = logging.getLogger(__name__)

START = 2**63 - 1  # the number of the sweep whose stream a chain starts from
SIDES: dict[Literal["user", "item", "other"], tuple[str, ...]] = {  # of the tensors of a posterior
    "user": ("left", "user_bias"),
    "item": ("right", "item_bias"),
    "other": ("probes", "moments"),
}


class BayesSettings(TrainerSettings):
    """Settings of `bayes`. Ratings are standardised before they are fitted, so none of these depends on their scale.

    `factors` is rounded up to one less than a multiple of 8: a row of factors and bias then fills whole vectors.
    `freedom` is that of the errors' t-like distribution, a weight for each user and each item; 0 means Gaussian errors.
    """

    factors: int = Field(default=15, ge=1, le=255)
    chains: int = Field(default=2, ge=1, le=64)
    burn_in: int = Field(default=20, ge=0)
    samples: int = Field(default=130, ge=1)
    rank: int = Field(default=32, ge=1)
    implicit: bool = True
    side_information: bool = False
    user_freedom: float = Field(default=20.0, ge=0)
    item_freedom: float = Field(default=10.0, ge=0)

    @property
    def uses_attributes(self) -> bool:
        return self.side_information


class Bayes(Trainer[BayesSettings]):
    """An epoch is one sweep of every chain. During burn-in the model is the present sample, then the mean since."""

    Settings = BayesSettings
    distributes = True

    def __init__(self, data: TrainingSet, settings: BayesSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self.epochs = settings.burn_in + settings.samples
        self._attributes: tuple[Tensor | None, Tensor | None] = (None, None)
        if settings.side_information:
            self._attributes = (data.user_attributes_UA, data.item_attributes_IA)
            if data.user_attributes_UA is None and data.item_attributes_IA is None:
                log.warning("side_information is set, but the data has no attributes")
        self._mean, self._deviation = data.standardisation()
        self._seed = int(rng.integers(2**63))
        self._width = padded_width(settings.factors)
        self._local = [LocalRows(data.communicator, span) for span in (data.user_span, data.item_span)]
        self._probes_2N = draw_probes(data.users_N, data.items_N, data.users, data.item_span, rng)
        self._sweeps = 0
        if data.device.type == "cpu":
            compile_for(self._width)

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: BayesSettings) -> int:
        """The ratings as given, standardised and grouped by user and by item, the chains, and the sums over samples."""
        rows, width = users + items, padded_width(settings.factors)
        grouped = (12 + 4 + 2 * 8) * ratings
        sweep = max(users, items) * (2 * width * width + 10 * width)  # Gram matrices, their factors, and tables
        chains = 4 * settings.chains * (sweep + rows * 8 * width)
        columns = 2 * settings.rank + 9 * settings.factors
        posterior = 4 * rows * 3 * columns + 8 * 4 * PROBES * rows
        return grouped + chains + posterior

    def epoch(self) -> Mapping[str, Tensor]:
        losses = self._sweep(self._streams(self._sweeps))
        self._sweeps += 1
        variance = self._deviation.square()
        precision = torch.stack([chain.precision for chain in self._chains]).mean()
        return {"loss": torch.stack(losses).mean() * variance, "noise_deviation": (variance / precision).sqrt()}

    def _sweep(self, streams: Sequence[RandomStream]) -> list[Tensor]:
        """One sweep of each chain, side by side where that pays; their losses.

        The tensors of a chain are small: torch's own threads would wait for one another more than they work.
        """
        chains = self._chains
        if not self._concurrent:
            losses = list(map(Chain.sweep, chains, streams))
            self._collect(streams)
            return losses
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(len(streams), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            losses = list(pool.map(Chain.sweep, chains, streams))
            pool.submit(self._collect, streams).result()
        torch.set_num_threads(threads)  # the default of later threads, which is shared
        return losses

    @property
    def _concurrent(self) -> bool:
        many = self.settings.chains > 1 and torch.get_num_threads() > 1
        return many and self.data.device.type == "cpu" and self.data.communicator.thread_safe

    def _streams(self, sweep: int) -> list[RandomStream]:
        return [self.data.random_stream(self._seed, chain, sweep) for chain in range(self.settings.chains)]

    @cached_property
    def _chains(self) -> list[Chain]:
        """The chains at their start. Grouping the ratings is a part of fitting, so the first epoch does it."""
        values_N = ((self.data.ratings_N - self._mean) / self._deviation).float()
        sides = self.data.gibbs_sides(values_N, self._rows, self._width)
        return [self._start(*sides, stream) for stream in self._streams(START)]

    @cached_property
    def _posterior(self) -> Posterior:
        """Before the first sweep: the mean of where the chains start."""
        posterior = self._empty_posterior()
        for chain in self._chains:
            posterior.add(_with_unknown(chain.user), _with_unknown(chain.item))
        return posterior

    def _rows(self, ratings: Triplets) -> Rows:
        if self.data.device.type != "cpu":
            return TorchRows(ratings, self._width)
        cores = torch.get_num_threads()
        threads = cores if cores > self.settings.chains or not self._concurrent else 1
        return CpuRows(ratings, threads)

    def _start(self, users: Rows, items: Rows, stream: RandomStream) -> Chain:
        data, settings, width = self.data, self.settings, self._width
        counts_I = data.item_totals()[data.item_span.rows]
        user = start_side(users, data.user_counts(), self._attributes[0], width, stream, self._local[0])
        item = start_side(items, counts_I, self._attributes[1], width, stream, self._local[1])
        if settings.implicit:
            start_effects(user, item, stream)
        precision = torch.ones((), dtype=torch.float64, device=data.device)
        return Chain(user, item, precision, settings.implicit, (settings.user_freedom, settings.item_freedom))

    def _empty_posterior(self) -> Posterior:
        rank, block = 2 * self.settings.rank, 8 * self.settings.factors
        return Posterior(self._probes_2N, *self._local, rank=rank, block=block)

    def _collect(self, streams: Sequence[RandomStream]) -> None:
        """Add each chain's present state to the posterior, which is empty until the burn-in is over."""
        if self._sweeps <= self.settings.burn_in:
            self._posterior = self._empty_posterior()
        for chain, stream in zip(self._chains, streams, strict=True):
            user_UK, item_IK = _with_unknown(chain.user), _with_unknown(chain.item)
            self._posterior.add(user_UK, item_IK)
            for table_RK, side in ((user_UK, chain.user), (item_IK, chain.item)):
                table_RK[-1] += side.spread_K.sqrt() * stream.normal(table_RK.shape[1])
            user_noise_U, item_noise_I = _with_mean(chain.user) / chain.precision, _with_mean(chain.item)
            self._posterior.probe(user_UK, self._all_items(item_IK), user_noise_U, self._all_items(item_noise_I))

    def _all_items(self, here_R: Tensor) -> Tensor:
        """All items' rows and that for unknown ones, given those here."""
        return torch.cat([self.data.communicator.gathered(here_R[:-1], self.data.item_span), here_R[-1:]])

    def model(self) -> MatrixFactorization:
        root, deviation = self._deviation.sqrt().float(), self._deviation.float()
        user_factors, item_factors = self._posterior.factors(self.settings.rank)
        user_bias, item_bias = self._posterior.biases()
        return MatrixFactorization(
            self._mean.float(),
            user_factors * root,
            self._all_items(item_factors * root),
            user_bias * deviation,
            self._all_items(item_bias * deviation),
            *(variance * deviation.square() for variance in self._posterior.variances()),
        )

    def warm_start(self, model: MatrixFactorization) -> bool:
        """Every chain starts at the earlier model; during the burn-in, which may be shorter, noise parts them again."""
        tables = ranked(model.user_factors[:-1], model.item_factors[:-1], self._width - 1)
        deviation = self._deviation.float()
        for chain in self._chains:
            sides = ((chain.user, tables[0], model.user_bias), (chain.item, tables[1], model.item_bias))
            for side, factors_RF, bias_R in sides:
                side.table_RK[:, : factors_RF.shape[1]] = factors_RF / deviation.sqrt()
                side.table_RK[:, -1] = bias_R[:-1] / deviation
        return True

    def state(self) -> Mapping[str, Tensor]:
        parts = {f"chain{number}": chain.state() for number, chain in enumerate(self._chains)}
        parts["posterior"] = self._posterior.state()
        counters = {"seed": torch.tensor(self._seed), "sweeps": torch.tensor(self._sweeps)}
        return {f"{part}.{name}": table for part, state in parts.items() for name, table in state.items()} | counters

    @classmethod
    def side_of(cls, name: str) -> Literal["user", "item", "other"] | None:
        owner, _, field = name.partition(".")
        if owner == "posterior":
            return next((side for side, names in SIDES.items() if field in names), None)
        by_row = field.endswith(("table_RK", "effect_RK", "shift_RK", "weight_R"))
        return super().side_of(field) if by_row else None

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._seed, self._sweeps = int(state["seed"]), int(state["sweeps"])
        for number, chain in enumerate(self._chains):
            chain.restore(_under(f"chain{number}.", state))
        self._posterior = self._empty_posterior()
        self._posterior.restore(_under("posterior.", state))
        self._probes_2N = self._posterior.state()["probes"]


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): table for name, table in state.items() if name.startswith(prefix)}


def _with_unknown(side: Side) -> Tensor:
    return torch.cat([side.table_RK, side.unknown_K[None]])


def _with_mean(side: Side) -> Tensor:
    """The variances of a rating's error that the rows say, and their mean for unknown ids."""
    variance_R = 1 / side.weight_R
    return torch.cat([variance_R, side.local.mean(variance_R[:, None])])
