"""What an algorithm must provide to be a trainer, and what it is given.

A file `training/fit/trainers/<name>.py` with one concrete `Trainer` is the trainer `<name>`; nothing else registers it.
The loop that drives it (progress, timing, evaluation, early stop) is `training.fit.loop` and is written once.
Shapes: U users, I items, N training ratings, A attributes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from models.mf import MatrixFactorization
from training.communicator import ALONE, BLOCK, Communicator, LocalRows, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """Training ratings as indices, all tensors on one device. A user or item without ratings has attributes.

    Of several ranks that fit together each has the ratings of its own users, numbered from 0, and of all items.

    Attributes:
        users: U.
        items: I.
        users_N: user index of each rating, int32.
        items_N: item index of each rating, int32.
        ratings_N: the ratings, float32.
        timestamps_N: seconds since 1970, int64; None where the data has none.
        user_attributes_UA: side information, float32, finite; None where the data has none.
        item_attributes_IA: side information, float32, finite; None where the data has none.
        ranks: who fits together.
        users_here: which of all users; None for all.
    """

    users: int
    items: int
    users_N: Tensor
    items_N: Tensor
    ratings_N: Tensor
    timestamps_N: Tensor | None = None
    user_attributes_UA: Tensor | None = None
    item_attributes_IA: Tensor | None = None
    ranks: Communicator = ALONE
    users_here: Span | None = None

    @property
    def user_span(self) -> Span:
        """The users that are here."""
        return self.users_here or Span.whole(self.users)

    @property
    def item_span(self) -> Span:
        """The items whose rows are here, where a trainer spreads them."""
        return Span.even(self.items, self.ranks, BLOCK)

    @property
    def places(self) -> tuple[LocalRows, LocalRows]:
        """The users and the items that are here."""
        return LocalRows(self.ranks, self.user_span), LocalRows(self.ranks, self.item_span)

    @property
    def device(self) -> torch.device:
        return self.ratings_N.device

    def __len__(self) -> int:
        return self.ratings_N.shape[0]

    def user_counts(self) -> Tensor:
        """How many ratings each user has, int64, (U,)."""
        return _counts(self.users_N, self.users)

    def item_counts(self) -> Tensor:
        """How many ratings each item has here, int64, (I,)."""
        return _counts(self.items_N, self.items)

    def item_totals(self) -> Tensor:
        """How many ratings each item has on all ranks, int64, (I,)."""
        return self.ranks.sum(self.item_counts())

    def total(self) -> int:
        """How many ratings there are on all ranks."""
        return self.ranks.total(len(self))

    def standardisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (1 where all ratings are equal) of the ratings, 0-dimensional, float64."""
        mean = self.ranks.mean(self.ratings_N)
        norm = torch.linalg.vector_norm(self.ratings_N - mean.float(), dtype=torch.float64)
        deviation = (self.ranks.sum(norm.square()) / self.total()).sqrt()
        return mean, torch.where(deviation > 0, deviation, 1.0)


class TrainerSettings(BaseModel):
    """Settings of one algorithm: what a preset's `[settings]` and `--set KEY=VALUE` may name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def uses_attributes(self) -> bool:
        """Whether the trainer wants side information with these settings."""
        return False


BYTES_PER_RATING = 12 * 2  # two indices and a rating, once as read and once on the device
SettingsT = TypeVar("SettingsT", bound=TrainerSettings)


class Trainer(ABC, Generic[SettingsT]):
    """One algorithm, fitting one training set.

    Built with the data, its settings and a random generator (the only source of randomness), a trainer is then driven
    by `epochs` calls of `epoch`; its model is usable after each of them, and after none.
    """

    Settings: ClassVar[type[TrainerSettings]]
    spreads: ClassVar[bool] = False  # whether the fit may be spread over ranks

    def __init__(self, data: TrainingSet, settings: SettingsT, rng: np.random.Generator) -> None:
        self.data = data
        self.settings = settings
        self.rng = rng

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: SettingsT) -> int:  # noqa: ARG003
        """Estimate of the most memory a fit takes on its device, without the interpreter and its libraries (300 MB)."""
        return BYTES_PER_RATING * ratings

    @property
    @abstractmethod
    def epochs(self) -> int:
        """How many calls of `epoch` make a complete fit."""

    @abstractmethod
    def epoch(self) -> Mapping[str, Tensor]:
        """Pass over the ratings once, never waiting for the device.

        Returns figures as 0-dimensional tensors on the device: `loss`, the mean squared error of the training ratings
        during the pass, and whatever else the algorithm can tell.
        """

    @abstractmethod
    def model(self) -> MatrixFactorization:
        """The model as fitted so far, in its served form, on the device of the data."""

    def warm_start(self, model: MatrixFactorization) -> bool:  # noqa: ARG002
        """Start from an earlier model instead of from random numbers; gives whether this trainer does that.

        Its rows are those of the training set, on the device of the data; what the earlier model did not know has its
        row for unknown ids. It is called before the first epoch or not at all.
        """
        return False

    @abstractmethod
    def state(self) -> Mapping[str, Tensor]:
        """All that `restore` needs to continue this fit as if it had never stopped, the generator's state included."""

    def side_of(self, name: str) -> Literal["user", "item", "other"] | None:  # noqa: ARG002
        """Of which side a tensor in `state` holds the rows that are here, where a fit is spread.

        `other` for rows of neither, which any rank may have; None for what is the same on all ranks.
        """
        return None

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`, taken by a trainer with the same data and settings."""


def _counts(indices_N: Tensor, rows: int) -> Tensor:
    ones_N = torch.ones((), dtype=torch.int64, device=indices_N.device).expand(len(indices_N))
    return torch.zeros(rows, dtype=torch.int64, device=indices_N.device).index_add_(0, indices_N, ones_N)
