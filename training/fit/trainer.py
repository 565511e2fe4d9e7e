"""The contract of trainers, and the training set that they get.

A file `training/fit/trainers/<name>.py` with one concrete `Trainer` is the trainer `<name>`; nothing else registers it.
Shapes: U users, I items, N training ratings, A attributes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from models.mf import MatrixFactorization
from training.communicator import BLOCK, SINGLE_PROCESS, Communicator, LocalRows, Span
from training.fit.kernels import als_rows, gibbs
from training.fit.kernels.grouping import Triplets

RowsT = TypeVar("RowsT")
MakeRows = Callable[[Triplets], RowsT]  # groups the ratings of one side
Sides = tuple[RowsT, RowsT]  # users and items


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """Training ratings as indices, all tensors on one device. Users and items without ratings have attributes.

    No pair of a user and an item has two ratings.

    A rank of a distributed fit has the ratings of its own users, numbered from 0, and all items.

    Attributes:
        users_N, items_N: user and item index of each rating, int32.
        ratings_N: float32.
        user_attributes_UA, item_attributes_IA: side information, float32, finite; None where the data has none.
        users_here: which of the users of all ranks these are; None for all.
        trial_N: which ratings a trial holds out, bool; None for some at random.
        weights_N: how much each rating counts, float32, from 0 to 1; None where all count 1.
        everything: the ratings of all ranks, where every rank has them and runs some of the chains of the Gibbs
            sampler; None where the ranks run each chain together.
    """

    users: int
    items: int
    users_N: Tensor
    items_N: Tensor
    ratings_N: Tensor
    user_attributes_UA: Tensor | None = None
    item_attributes_IA: Tensor | None = None
    communicator: Communicator = SINGLE_PROCESS
    users_here: Span | None = None
    trial_N: Tensor | None = None
    weights_N: Tensor | None = None
    everything: TrainingSet | None = None

    @property
    def sampled(self) -> TrainingSet:
        """What the chains on this rank are run on."""
        return self if self.everything is None else self.everything

    @property
    def sharers(self) -> Communicator:
        """The ranks that share the chains out."""
        return SINGLE_PROCESS if self.everything is None else self.communicator

    @property
    def user_span(self) -> Span:
        """The users of this rank."""
        return self.users_here or Span.whole(self.users)

    @property
    def item_span(self) -> Span:
        """The items whose rows this rank has, if the trainer distributes them."""
        return Span.even(self.items, self.communicator, BLOCK)

    @property
    def local(self) -> tuple[LocalRows, LocalRows]:
        """The users and the items of this rank."""
        return LocalRows(self.communicator, self.user_span), LocalRows(self.communicator, self.item_span)

    def users_of(self, sampled_RK: Tensor) -> Tensor:
        """The rows of the users here, and the last one, of a table of `sampled` that ends with unknown ids' row."""
        return sampled_RK if self.everything is None else _with_last(sampled_RK, self.user_span)

    def items_of(self, sampled_RK: Tensor) -> Tensor:
        """The same for items."""
        return sampled_RK if self.everything is None else _with_last(sampled_RK, self.item_span)

    def all_items(self, here_R: Tensor) -> Tensor:
        """All items' rows and that for unknown ones, given those here."""
        return torch.cat([self.communicator.gathered(here_R[:-1], self.item_span), here_R[-1:]])

    @property
    def device(self) -> torch.device:
        return self.ratings_N.device

    def __len__(self) -> int:
        return self.ratings_N.shape[0]

    def user_counts(self) -> Tensor:
        """The number of ratings of each user, int64, (U,)."""
        return _counts(self.users_N, self.users)

    def user_weights(self) -> Tensor:
        """The sum of the weights of each user's ratings, float64, (U,)."""
        return self._weights(self.users_N, self.users)

    def item_weights(self) -> Tensor:
        """The sum of the weights of each item's ratings on all ranks, float64, (I,)."""
        return self.communicator.sum(self._weights(self.items_N, self.items))

    def _weights(self, indices_N: Tensor, rows: int) -> Tensor:
        if self.weights_N is None:
            return _counts(indices_N, rows).double()
        zeros_R = torch.zeros(rows, dtype=torch.float64, device=self.device)
        return zeros_R.index_add_(0, indices_N, self.weights_N.double())

    def item_totals(self) -> Tensor:
        """The number of ratings of each item on all ranks, int64, (I,)."""
        return self.communicator.sum(_counts(self.items_N, self.items))

    def most_rated(self, most: int) -> Tensor:
        """The places of the items with most ratings, in their order, and −1 for all others, int64, (I,)."""
        order_I = torch.sort(self.item_totals(), descending=True, stable=True).indices
        chosen_C = order_I[:most].sort().values
        place_I = torch.full_like(order_I, -1)
        place_I[chosen_C] = torch.arange(len(chosen_C), device=self.device)
        return place_I

    def of_items(self, place_I: Tensor) -> TrainingSet:
        """The ratings of the items that have a place, their new index, without attributes."""
        place_N = place_I[self.items_N.long()]
        here_N = place_N >= 0
        return replace(
            self,
            items=int((place_I >= 0).sum()),
            users_N=self.users_N[here_N],
            items_N=place_N[here_N].int(),
            ratings_N=self.ratings_N[here_N],
            item_attributes_IA=None,
            trial_N=None,
        )

    def total(self) -> int:
        """The number of ratings on all ranks."""
        return self.communicator.total(len(self))

    def standardisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (1 where all ratings are equal) of the ratings, 0-dimensional, float64."""
        mean = self.communicator.mean(self.ratings_N)
        norm = torch.linalg.vector_norm(self.ratings_N - mean.float(), dtype=torch.float64)
        deviation = (self.communicator.sum(norm.square()) / self.total()).sqrt()
        return mean, torch.where(deviation > 0, deviation, 1.0)

    def grouped(self, values_N: Tensor, make: MakeRows[RowsT]) -> Sides[RowsT]:
        """Values of the ratings grouped by user and by item."""
        by_user = make(Triplets(self.users_N, self.items_N, values_N, self.users, self.items, self.weights_N))
        return by_user, make(Triplets(self.items_N, self.users_N, values_N, self.items, self.users, self.weights_N))

    def als_sides(self, values_N: Tensor, make: MakeRows[als_rows.Rows], _width: int) -> Sides[als_rows.Solver]:
        """Users and items for alternating least squares, given the width of a table."""
        return self.grouped(values_N, make)

    def gibbs_sides(self, values_N: Tensor, make: MakeRows[gibbs.Rows], _width: int) -> Sides[gibbs.Rows]:
        """Users and items for the Gibbs sampler, given the width of a table."""
        return self.grouped(values_N, make)

    def random_stream(self, key: int, chain: int, sweep: int) -> gibbs.RandomStream:
        """The random numbers of one sweep of one chain of the Gibbs sampler."""
        return gibbs.RandomStream(key, chain, sweep, self.device)


class TrainerSettings(BaseModel):
    """Settings of one algorithm: what a preset's `[settings]` and `--set KEY=VALUE` may name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


BYTES_PER_RATING = 12 * 2  # two indices and a rating, once as read and once on the device
SettingsT = TypeVar("SettingsT", bound=TrainerSettings)


class Trainer(ABC, Generic[SettingsT]):
    """One algorithm, fitting one training set, with `rng` as its only source of randomness.

    The loop calls `epoch` `epochs` times. The model is usable before the first call and after each.
    """

    epochs: int  # set by `__init__`
    Settings: ClassVar[type[TrainerSettings]]
    TABLES: ClassVar[tuple[tuple[str, str], ...]]  # what `state` saves: its name there, and the attribute
    distributes: ClassVar[bool] = False  # whether several ranks may fit it together
    shares_chains: ClassVar[bool] = False  # whether ranks that have all ratings may each run a part of it
    uses_attributes: ClassVar[bool] = False  # whether side information that is given makes a difference
    uses_weights: ClassVar[bool] = False  # whether weights of the ratings do

    def __init__(self, data: TrainingSet, settings: SettingsT, rng: np.random.Generator) -> None:
        self.data, self.settings, self.rng = data, settings, rng

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: SettingsT) -> int:  # noqa: ARG003
        """An estimate of a fit's peak memory on its device, without the interpreter and its libraries (300 MB)."""
        return BYTES_PER_RATING * ratings

    def trial(self) -> Any:
        """Before the first epoch: a short fit (`training.fit.loop.Fit`) that `learn` is called with when it is over.

        None if there is none.
        """
        return None

    def learn(self, trial: Any) -> None:
        """Choose what a complete trial says is best; `epochs` may change."""

    @abstractmethod
    def epoch(self) -> Mapping[str, Tensor]:
        """Pass over the ratings once, without waiting for the device; return figures, 0-dimensional and on the device:
        `loss`, the mean squared error of the training ratings during the pass, and others that the algorithm knows.
        """

    @abstractmethod
    def model(self) -> MatrixFactorization:
        """The model fitted so far, in its served form, on the device of the data."""

    def warm_start(self, model: MatrixFactorization) -> bool:  # noqa: ARG002
        """Before the first epoch: start from an earlier model, not random numbers; return whether this trainer can.

        The model has a row for each user and item of the training set; those that it did not know have its row for
        unknown ids.
        """
        return False

    def state(self) -> Mapping[str, Tensor]:
        """All that `restore` needs to continue this fit as if it had not stopped, with the state of the generator."""
        return {name: getattr(self, attribute).clone() for name, attribute in self.TABLES}

    @classmethod
    def side_of(cls, name: str) -> Literal["user", "item", "other"] | None:
        """The side whose rows of this rank a tensor in `state` holds, if the fit is distributed.

        `other` for rows of neither side, which any rank may have; None for a tensor that is the same on all ranks.
        """
        return "user" if name.startswith("user") else "item" if name.startswith("item") else None

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state`, taken by a trainer with the same data and settings."""
        for name, attribute in self.TABLES:
            setattr(self, attribute, state[name].clone())


def _with_last(table_RK: Tensor, span: Span) -> Tensor:
    return torch.cat([table_RK[span.rows], table_RK[-1:]])


def _counts(indices_N: Tensor, rows: int) -> Tensor:
    ones_N = torch.ones((), dtype=torch.int64, device=indices_N.device).expand(len(indices_N))
    # bincount would wait for the device
    return torch.zeros(rows, dtype=torch.int64, device=indices_N.device).index_add_(0, indices_N, ones_N)
