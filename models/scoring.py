"""The score of a user and an item, x·y + b_u + b_i + μ − z·√(v_u + w_i): one formula in one order of summation.

A pair has the same bits wherever it is scored: alone, in a batch or among all items
(`docs/adr/0009-exact-top-n-by-blocks.md`). The module knows tables and row numbers, not what they mean.
Shapes: U users, I items, G factors, M or N pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PAIRS_AT_ONCE = 1024  # on the CPU: rows of 64 factors are then 256 kB a side, which fits a second-level cache
ROWS_OF_NORMS = 1 << 12  # 2 MB in float64 at F = 64, for the cache of a core: ten times as fast as blocks of 32 MB
ROWS_AT_ONCE = 1 << 18  # on other devices: a buffer of 64 MB at F = 64
DIMENSIONS = (2, 1, 1)  # of the tables of factors, bias and variance
LOWER_BOUND_DEVIATIONS = 1.645  # z: of a normal distribution 5 % are below

Rows: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
# Factors (…, G), bias (…) and variance (…) of one row or of many, as arrays or tensors; None if not known.
SideRows: TypeAlias = tuple[Any, Any, Any]


def score(x: Any, user_bias: Any, user_variance: Any, y: Any, item_bias: Any, item_variance: Any, mean: Any) -> Any:
    """The score of rows of users and rows of items, which broadcast. float32, an array or tensor like the factors.

    On the CPU each sum is a call of numpy, because torch's calls take longer than a pair does.
    """
    scores = y.sum(-1) if x is None else dot(x, y)  # without user factors there are no item factors: zeros
    if user_bias is not None:
        scores += user_bias
    if item_bias is not None:
        scores += item_bias
    if mean is not None:
        scores += mean
    if user_variance is not None and item_variance is not None:
        scores -= LOWER_BOUND_DEVIATIONS * square_root(user_variance + item_variance)
    return scores


def dot(p: Any, q: Any) -> Any:
    """p · q of float32 rows: q is (N, G), p too, or one row for all of q; or both are arrays (G,). Arrays are
    contiguous.

    The bits of a dot product depend on its two rows alone, not on their number, position or alignment: numpy calls
    the same function of BLAS for each pair of contiguous rows, which sums in one fixed order. They may differ between
    the CPU and other devices.
    """
    if q.ndim == 1:
        return p.dot(q)
    return _dot_tensors(p, q) if isinstance(q, Tensor) else np.vecdot(p, q)


def norms(q_IG: Tensor) -> Tensor:
    """‖q_i‖ of every row, float32 (I,). Its bits depend on the row alone."""
    norms_I: Tensor = square_root(dot(q_IG, q_IG))
    return norms_I


def square_root(values: Any) -> Any:
    """Correctly rounded, of any shape. torch's own on the CPU may be off by one unit in the last place."""
    if not isinstance(values, Tensor):
        return np.sqrt(values)
    return torch.from_numpy(np.sqrt(values.numpy())) if values.device.type == "cpu" else values.sqrt()


def _dot_tensors(p: Tensor, q_NG: Tensor) -> Tensor:
    if q_NG.device.type == "cpu":
        return torch.from_numpy(dot(p.contiguous().numpy(), q_NG.contiguous().numpy()))
    parts = zip(p.expand_as(q_NG).split(ROWS_AT_ONCE), q_NG.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([_sum_by_halves(p_RG * q_RG) for p_RG, q_RG in parts])


def _sum_by_halves(terms_BF: Tensor) -> Tensor:
    """Sum of each row, shape (B,), overwriting `terms_BF`. Each step adds whole columns: no kernel picks the order."""
    columns = terms_BF.shape[1]
    if columns == 0:
        return terms_BF.new_zeros(len(terms_BF))
    while columns > 1:
        half = (columns + 1) // 2
        terms_BF[:, : columns - half] += terms_BF[:, half:columns]
        columns = half
    return terms_BF[:, 0].clone()


@dataclass(frozen=True, eq=False)
class Side:
    """A form's tables of the users, or of the items: a row each, and a last row for those without ratings."""

    factors: Tensor | None  # x or y, shape (R+1, G); None if G is 0 and all rows are the same
    bias: Tensor | None = None  # shape (R+1,), or None
    variance: Tensor | None = None  # shape (R+1,), or None

    @property
    def tables(self) -> SideRows:
        return self.factors, self.bias, self.variance

    def take(self, at: Tensor) -> Side:
        """Some rows, on the device of the tables."""
        return Side(*take(self.tables, at))

    def to(self, device: torch.device) -> Side:
        return Side(*(None if table is None else table.to(device) for table in self.tables))

    def given(self, rows: SideRows) -> Side:
        """A side of one given row or of several, without bias or variance if the other rows have none."""
        both = [None if table is None else value for table, value in zip(self.tables, rows, strict=True)]
        tables = [None if value is None else torch.as_tensor(value, dtype=torch.float32) for value in both]
        return Side(
            *(
                table if table is None or table.ndim == dimensions else table[None]
                for table, dimensions in zip(tables, DIMENSIONS, strict=True)
            )
        )

    @cached_property
    def host(self) -> SideRows:
        """The tables as arrays, which share their memory; only on the CPU."""
        tables = [None if table is None else np.ascontiguousarray(table.numpy()) for table in self.tables]
        return tables[0], tables[1], tables[2]

    @cached_property
    def known(self) -> SideRows:
        """`host` without the last row."""
        return take(self.host, slice(0, -1))

    @cached_property
    def largest_norm(self) -> float:
        """The largest ‖row‖ among the known rows' factors."""
        blocks = () if self.factors is None else self.factors[:-1].split(ROWS_OF_NORMS)
        return max((float(block.double().norm(dim=1).max()) for block in blocks if len(block)), default=0.0)

    @cached_property
    def largest_offset(self) -> float:
        """The largest absolute value that the bias and variance of a known row add to a score."""
        bias, variance = (None if table is None else table[:-1] for table in (self.bias, self.variance))
        offset = 0.0 if bias is None or len(bias) == 0 else float(bias.abs().max())
        if variance is not None and len(variance):
            offset += LOWER_BOUND_DEVIATIONS * float(variance.max()) ** 0.5
        return offset


def take(tables: SideRows, at: Any) -> SideRows:
    """Some rows of three tables: `at` is a number, a slice, or numbers as the tables are, an array or a tensor."""
    if isinstance(at, np.ndarray):  # `take` is faster than brackets
        factors, bias, variance = [None if table is None else table.take(at, 0) for table in tables]
    else:
        factors, bias, variance = [None if table is None else table[at] for table in tables]
    return factors, bias, variance


@dataclass(frozen=True, eq=False)
class BilinearForm:
    """Scores pairs with the tables of users and items, and so orders items for a user.

    The tables are finite, on one device, and none of their scores overflows.
    """

    users: Side  # x, b_u and v_u
    items: Side  # y, b_i and w_i; factors are always there
    mean: Tensor | None = None  # μ, shape (), or None

    @property
    def item_factors(self) -> Tensor:
        """y, shape (I+1, G)."""
        return cast("Tensor", self.items.factors)

    @property
    def item_count(self) -> int:
        """I, the number of known items."""
        return self.item_factors.shape[0] - 1

    @property
    def device(self) -> torch.device:
        return self.item_factors.device

    @cached_property
    def is_on_cpu(self) -> bool:
        return self.device.type == "cpu"

    def of_users(self, users: Side) -> BilinearForm:
        """The same items scored for users whose rows are given, on any device."""
        return BilinearForm(users.to(self.device), self.items, self.mean)

    def of_user(self, user: SideRows) -> BilinearForm:
        """As `of_users`, for a user whose row is given: user 0, the only one; or for several, as arrays."""
        return self.of_users(self.users.given(user))

    def exact(self, users_M: Tensor, items_M: Tensor) -> Tensor:
        """The score of each pair, float32 (M,). Row numbers, int64, are on the device."""
        if self.is_on_cpu:
            return torch.from_numpy(self.scores(users_M.numpy(), items_M.numpy()))
        users, items = take(self.users.tables, users_M), take(self.items.tables, items_M)
        scores_M: Tensor = score(*users, *items, self.mean)
        return scores_M

    def pair_within(self, low: np.float32, high: np.float32) -> Callable[[int, int], float]:
        """A function that scores one pair, clipped to an interval.

        The tables are bound once, because looking them up takes as long as the score itself.
        """
        if not self.is_on_cpu:
            return lambda user, item: float(self.scores(user, np.array([item])).clip(low, high)[0])
        (x, user_bias, user_variance), (y, item_bias, item_variance) = self.users.host, self.items.host
        mean = self._host_mean

        def pair(user: int, item: int) -> float:
            value = score(
                None if x is None else x[user],
                None if user_bias is None else user_bias[user],
                None if user_variance is None else user_variance[user],
                y[item],
                None if item_bias is None else item_bias[item],
                None if item_variance is None else item_variance[item],
                mean,
            )
            return float(min(max(value, low), high))

        return pair

    def scores(self, users: int | Rows, items_N: Rows) -> Floats:
        """As `exact`, of rows in the host's memory: one user or one for each item, float32 (N,)."""
        if not self.is_on_cpu:
            return scores_on_device(self, users, items_N)
        if len(items_N) <= PAIRS_AT_ONCE:
            return self._on_host(take(self.users.host, users), items_N)
        parts = [slice(begin, begin + PAIRS_AT_ONCE) for begin in range(0, len(items_N), PAIRS_AT_ONCE)]
        of_parts = [users[part] if isinstance(users, np.ndarray) else users for part in parts]
        return np.concatenate([self.scores(some, items_N[part]) for some, part in zip(of_parts, parts, strict=True)])

    def scores_of(self, users: SideRows, items_N: Rows) -> Floats:
        """As `scores`, for given rows: of one user, an array and two numbers, or of one for each item, as arrays."""
        if not self.is_on_cpu:
            return scores_on_device(self.of_user(users), given_rows(users), items_N)
        return self._on_host(users, items_N)

    def scores_of_all(self, user: int) -> Floats:
        """The score of every known item for one user, shape (I,); only on the CPU."""
        scores_I: Floats = score(*take(self.users.host, user), *self.items.known, self._host_mean)
        return scores_I

    def _on_host(self, user: SideRows, items_N: Rows) -> Floats:
        scores_N: Floats = score(*user, *take(self.items.host, items_N), self._host_mean)
        return scores_N

    @cached_property
    def _host_mean(self) -> np.float32 | None:
        return None if self.mean is None else np.float32(self.mean.numpy())


def given_rows(users: SideRows) -> int | Rows:
    """The row of each given user in a form of theirs alone; 0 of a single one."""
    factors = users[0]
    return np.arange(len(factors)) if factors.ndim == DIMENSIONS[0] else 0


@torch.inference_mode()
def scores_on_device(form: Any, users: int | Rows, items_N: Rows) -> Floats:
    """`BilinearForm.scores` for tables that are not in the host's memory, by `exact`."""
    rows_2N = torch.from_numpy(np.stack(np.broadcast_arrays(users, items_N))).to(form.device)
    scores_N: Floats = form.exact(*rows_2N).cpu().numpy()
    return scores_N
