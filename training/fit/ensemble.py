"""Chains of the Gibbs sampler side by side on one training set, each of a variant of the model of its own.

It knows neither what is kept of their samples nor how many sweeps there are. Ranks that have all ratings share the
chains: each runs every so-many-th, and draws what one process would draw for it.
Shapes: U users, I items, K table width (factors, then bias), N training ratings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from training.fit.kernels.collapse import ranked
from training.fit.kernels.gibbs import Chain, RandomStream, Rows, Side, shares, start_effects, start_side
from training.fit.kernels.gibbs_cpu import CpuRows
from training.fit.kernels.gibbs_torch import TorchRows
from training.fit.kernels.grouping import Triplets
from training.fit.kernels.posterior import Spread
from training.fit.kernels.tiles import padded_width
from training.fit.trainer import TrainingSet

START = 2**63 - 1  # the number of the sweep whose stream a chain starts from


class Variant(NamedTuple):
    """A model: whether what was rated has an effect, and ν of users' and items' errors, 0 for Gaussian errors."""

    implicit: bool
    user_freedom: float
    item_freedom: float

    def __str__(self) -> str:
        effects = "with" if self.implicit else "without"
        tails = "with" if self.user_freedom or self.item_freedom else "without"
        return f"{effects} effects, {tails} heavy tails"


class Sample(NamedTuple):
    """The present state of a chain, and the random numbers of its sweep."""

    chain: Chain
    stream: RandomStream

    def tables(self) -> tuple[Tensor, Tensor]:
        """Users' and items' rows, (U+1, ·) and (I+1, ·), the last ones the means of unknown ids; a bias comes last."""
        return self._as_if_rated(_with_unknown(self.chain.user), _with_unknown(self.chain.item))

    def drawn(self) -> tuple[Tensor, Tensor]:
        """The same with a draw of the unknown ids' rows."""
        tables = _with_unknown(self.chain.user), _with_unknown(self.chain.item)
        for table_RK, side in zip(tables, (self.chain.user, self.chain.item), strict=True):
            table_RK[-1] += side.spread_K.sqrt() * self.stream.normal(table_RK.shape[1])
        return self._as_if_rated(*tables)

    def _as_if_rated(self, user_UK: Tensor, item_IK: Tensor) -> tuple[Tensor, Tensor]:
        """With the effect that a user has on an item's row by rating it.

        It is in the row for every training rating, and a rating is predicted on the condition that there is one. It
        adds s_i [p̃_u, 1]·w_u to the prediction, one more column.
        """
        chain = self.chain
        if not chain.implicit:
            return user_UK, item_IK
        effect_UK, counts_I = chain.user.effect_RK, chain.item.counts_R
        of_user_U = (user_UK[:-1, :-1] * effect_UK[:, :-1]).sum(1) + effect_UK[:, -1]
        of_item_I = shares(torch.cat([counts_I, counts_I.new_zeros(1)]) + 1, counts_I, chain.item.local)
        return _with_column(user_UK, torch.cat([of_user_U, of_user_U.new_zeros(1)])), _with_column(item_IK, of_item_I)

    def noise(self) -> tuple[Tensor, Tensor]:
        """The parts of users and items in the variance of a rating's error, (U+1,) and (I+1,)."""
        return _with_mean(self.chain.user) / self.chain.precision, _with_mean(self.chain.item)


class Ensemble:
    """The chains, of which `chains` are those on this rank.

    `first` is the number of the first one, which with `seed` decides what it draws.
    """

    def __init__(self, data: TrainingSet, variants: Sequence[Variant], factors: int, seed: int, first: int = 0) -> None:
        self.data, self.sharers = data.sampled, data.sharers
        self.variants, self.width = list(variants), padded_width(factors)
        self._seed, self._first = seed, first
        self.mean, self.deviation = self.data.standardisation()
        self.local = self.data.local

    @property
    def here(self) -> range:
        """Which of the chains are on this rank."""
        return range(self.sharers.rank, len(self.variants), self.sharers.size)

    @cached_property
    def chains(self) -> list[Chain]:
        """The chains at their start. Grouping the ratings is a part of fitting, so the first sweep does it."""
        values_N = ((self.data.ratings_N - self.mean) / self.deviation).float()
        sides = self.data.gibbs_sides(values_N, self._rows, self.width)
        streams = self._streams(START)
        variants = [self.variants[number] for number in self.here]
        return [self._start(*sides, variant, stream) for variant, stream in zip(variants, streams, strict=True)]

    def samples(self, sweep: int) -> list[Sample]:
        return list(map(Sample, self.chains, self._streams(sweep)))

    def sweep(self, number: int, collect: Callable[[Sequence[Sample]], None]) -> list[Tensor]:
        """One sweep of each chain here, side by side where that pays, then `collect` with the samples; the losses.

        The tensors of a chain are small: torch's own threads would wait for one another more than they work.
        """
        samples = self.samples(number)
        if not self._concurrent:
            losses = [sample.chain.sweep(sample.stream) for sample in samples]
            collect(samples)
            return losses
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            losses = list(pool.map(lambda sample: sample.chain.sweep(sample.stream), samples))
            pool.submit(collect, samples).result()
        torch.set_num_threads(threads)  # the default of later threads, which is shared
        return losses

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the chains, which the ranks share out anew."""
        states = self.states()
        self.variants = [self.variants[place] for place in places]
        self.chains = self.chains[: len(self.here)]
        for chain, number in zip(self.chains, self.here, strict=True):
            variant = self.variants[number]
            chain.implicit, chain.freedom = variant.implicit, variant[1:]
            chain.restore(states[places[number]])
            for rows in (chain.user.rows, chain.item.rows):
                if isinstance(rows, CpuRows):
                    rows.threads = self._threads

    @property
    def precision(self) -> Tensor:
        """Of the errors of standardised ratings, the mean over the chains here."""
        return torch.stack([chain.precision for chain in self.chains]).mean()

    def follow(self, sample: Sample, spread: Spread, weight: float = 1.0) -> None:
        """Add a sample to what is known of a rating's variance."""
        (user_UK, item_IK), (user_noise_U, item_noise_I) = sample.drawn(), sample.noise()
        every_IK, every_noise_I = self.data.all_items(item_IK), self.data.all_items(item_noise_I)
        spread.add(user_UK, every_IK, user_noise_U, every_noise_I, weight)

    def start_from(self, model: MatrixFactorization) -> None:
        """Before the first sweep: start every chain at an earlier model."""
        tables, deviation = (
            ranked(model.user_factors[:-1], model.item_factors[:-1], self.width - 1),
            self.deviation.float(),
        )
        for chain in self.chains:
            sides = ((chain.user, tables[0], model.user_bias), (chain.item, tables[1], model.item_bias))
            for side, factors_RF, bias_R in sides:
                side.table_RK[:, : factors_RF.shape[1]] = factors_RF / deviation.sqrt()
                side.table_RK[:, -1] = bias_R[:-1] / deviation

    def states(self) -> list[dict[str, Tensor]]:
        """Those of all chains, on every rank."""
        of_ranks = self.sharers.all_objects([chain.state() for chain in self.chains])
        size = self.sharers.size
        return [of_ranks[number % size][number // size] for number in range(len(self.variants))]

    def state(self) -> dict[str, Tensor]:
        """Everything a sweep changes."""
        parts = {f"chain{number}": state for number, state in enumerate(self.states())}
        return {f"{part}.{name}": table for part, state in parts.items() for name, table in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for number, chain in zip(self.here, self.chains, strict=True):
            chain.restore(under(f"chain{number}.", state))

    @property
    def _concurrent(self) -> bool:
        many = len(self.here) > 1 and torch.get_num_threads() > 1
        return many and self.data.device.type == "cpu" and self.data.communicator.thread_safe

    def _streams(self, sweep: int) -> list[RandomStream]:
        return [self.data.random_stream(self._seed, self._first + number, sweep) for number in self.here]

    def _rows(self, ratings: Triplets) -> Rows:
        if self.data.device.type != "cpu":
            return TorchRows(ratings, self.width)
        return CpuRows(ratings, self._threads)

    @property
    def _threads(self) -> int:
        """Of the kernels of a chain: all cores share them, unless every core has as many chains of its own."""
        cores = torch.get_num_threads()
        return 1 if self._concurrent and len(self.here) % cores == 0 else cores

    def _start(self, users: Rows, items: Rows, variant: Variant, stream: RandomStream) -> Chain:
        data, width = self.data, self.width
        counts_I = data.item_totals()[data.item_span.rows]
        weights_U, weights_I = data.user_weights(), data.item_weights()[data.item_span.rows]
        user = start_side(users, data.user_counts(), data.user_attributes_UA, width, stream, self.local[0], weights_U)
        item = start_side(items, counts_I, data.item_attributes_IA, width, stream, self.local[1], weights_I)
        if variant.implicit:
            start_effects(user, item, stream)
        precision = torch.ones((), dtype=torch.float64, device=data.device)
        return Chain(user, item, precision, variant.implicit, variant[1:])


def sources(variants: Sequence[int], wanted: Sequence[int]) -> list[int | None]:
    """For each wanted variant the number of a chain of it, in turn if there are several; None if there is none."""
    chains = {variant: [n for n, each in enumerate(variants) if each == variant] for variant in wanted}
    before = [list(wanted[:place]).count(variant) for place, variant in enumerate(wanted)]
    return [
        chains[variant][nth % len(chains[variant])] if chains[variant] else None
        for variant, nth in zip(wanted, before, strict=True)
    ]


def fewer(sweeps: int, times: float, least: float) -> int:
    """How many sweeps there are of `times` as many ratings as have all: as much fewer, down to a share of `least`."""
    return round(sweeps * max(least, min(1.0, 1 / max(times, least))))


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): table for name, table in state.items() if name.startswith(prefix)}


def _with_unknown(side: Side) -> Tensor:
    return torch.cat([side.table_RK, side.unknown_K[None]])


def _with_column(table_RK: Tensor, column_R: Tensor) -> Tensor:
    """One more column of factors, before the bias."""
    return torch.cat([table_RK[:, :-1], column_R[:, None], table_RK[:, -1:]], dim=1)


def _with_mean(side: Side) -> Tensor:
    """The variances of a rating's error that the rows say, and their mean for unknown ids."""
    variance_R = 1 / side.weight_R
    return torch.cat([variance_R, side.local.mean(variance_R[:, None])])
