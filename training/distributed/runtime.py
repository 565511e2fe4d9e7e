"""How torchrun's ranks do a job together: what differs from a single process, and joining the ranks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint.writer import Draft
from training.config import JobConfig, Preset
from training.data.train_test import TrainTest
from training.distributed.als import NUMBER, BlockUsers, Items, WholeUsers
from training.distributed.gibbs import DistributedItems, DistributedUsers, Exchange, RowStream
from training.distributed.group import Group, free_memory, joined
from training.distributed.publication import publish_gathered
from training.distributed.reading import read_share
from training.distributed.state import FitStateDirectory
from training.errors import ConfigError
from training.fit.fit_state import FitState
from training.fit.kernels import als_rows, gibbs
from training.fit.kernels.grouping import Triplets
from training.fit.trainer import MakeRows, Sides, TrainingSet
from training.results import Result, WholeModel
from training.runtime import Runtime

log = logging.getLogger(__name__)


@contextmanager
def distributed(device: str, item_bytes: int | None) -> Iterator[DistributedRuntime]:
    """Join the ranks that torchrun has started. Arguments as `training.distributed.group.joined` takes them."""
    with joined(device, item_bytes) as group:
        log.info("this is rank %d of %d", group.rank, group.size)
        yield DistributedRuntime(group)
        log.info("this rank has sent %d bytes to the others", group.sent_bytes)


@dataclass(frozen=True, kw_only=True)
class DistributedTrainingSet(TrainingSet):
    """The ratings of this rank's users. Tables of the two sides hold the rows of `user_span` and `item_span`."""

    communicator: Group

    def als_sides(self, values_N: Tensor, make: MakeRows[als_rows.Rows], width: int) -> Sides[als_rows.Solver]:
        group = self.communicator
        items = Items(group, self, values_N, make, width)
        if NUMBER * self.items * width > group.item_bytes:
            return BlockUsers(group, self, values_N, make, width), items
        by_user = make(Triplets(self.users_N, self.items_N, values_N, self.users, self.items))
        return WholeUsers(group, self.item_span, by_user), items

    def gibbs_sides(self, values_N: Tensor, make: MakeRows[gibbs.Rows], width: int) -> Sides[gibbs.Rows]:
        if self.communicator.size == 1:  # one rank has all rows, and draws effects one after the other
            return self.grouped(values_N, make)
        exchange = Exchange(self.communicator, self.item_span, *self.grouped(values_N, make))
        return DistributedUsers(exchange), DistributedItems(exchange, self, values_N, make, width)

    def with_everything(self, order_N: Tensor) -> DistributedTrainingSet:
        """With the ratings of all ranks, in the order of one process: `order_N` says where those here belong."""
        group = self.communicator
        span = group.span(len(self))
        order = group.gathered(order_N, span).argsort()
        users_N, items_N, ratings_N = (
            group.gathered(column_N, span)[order]
            for column_N in (self.users_N + self.user_span.start, self.items_N, self.ratings_N)
        )
        trial_N = None if self.trial_N is None else group.gathered(self.trial_N.byte(), span)[order].bool()
        everything = TrainingSet(
            users=self.user_span.total,
            items=self.items,
            users_N=users_N,
            items_N=items_N,
            ratings_N=ratings_N,
            trial_N=trial_N,
        )
        return replace(self, everything=everything)

    def random_stream(self, key: int, chain: int, sweep: int) -> gibbs.RandomStream:
        return RowStream(key, chain, sweep, self.device)


class DistributedRuntime(Runtime):
    """One of several ranks."""

    training_set_class = DistributedTrainingSet

    def __init__(self, group: Group) -> None:
        self.communicator: Group = group

    def choose_device(self, name: str) -> torch.device:  # noqa: ARG002 - chosen when the ranks were joined
        return self.communicator.device

    def free_memory(self, device: torch.device) -> int:
        return free_memory(device)

    def read(self, config: JobConfig, preset: Preset, phase: Callable[[str], None]) -> TrainTest:
        if not preset.trainer_class.distributes:
            raise ConfigError(f"the preset {preset.name} cannot be fitted under torchrun")
        if config.user_attributes or config.item_attributes:
            raise ConfigError("--user-attributes and --item-attributes cannot be used under torchrun")
        if config.refit or config.warm_start:
            raise ConfigError("--refit and --warm-start cannot be used under torchrun")
        phase("reading ratings")
        return read_share(config, self.communicator)

    def to_fit(self, preset: Preset, training: TrainingSet, ratings: TrainTest) -> TrainingSet:
        group, trainer_class = self.communicator, preset.trainer_class
        if not trainer_class.shares_chains or not isinstance(training, DistributedTrainingSet):
            return training
        shape = (training.user_span.total, training.items, training.total())
        needed = trainer_class.memory_bytes(*shape, preset.settings)
        free = group.smallest(self.free_memory(training.device))
        facts = f"all ratings and the chains on them need about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        if ratings.order_N is None or needed > free:
            log.info("the ranks share the users: %s on a rank", facts)
            return training
        log.info("the ranks share the chains, and each has all ratings: %s on a rank", facts)
        return training.with_everything(torch.from_numpy(ratings.order_N).to(training.device))

    def saved_state(self, path: Path, fit: str, every: float) -> FitState:
        return FitStateDirectory(path, fit, self.communicator, every)

    def publish(self, out: Path, result: Result, draft: Callable[[WholeModel], Draft], *, activate: bool) -> str:
        return publish_gathered(self.communicator, out, result, draft, activate=activate)
