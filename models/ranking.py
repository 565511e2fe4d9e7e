"""Exact top-N: matrix products find the candidates, the dot product of `models.scoring` decides among them.

It knows tables, row numbers and which cells are excluded, not what the scores mean or whose they are
(`docs/adr/0009-exact-top-n-by-blocks.md`). Shapes: U users, I items, G factors, B users of a batch, N list length,
M pairs, K candidates, R items of a block, S stretches of a block.
"""

from __future__ import annotations

import math
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.checkpoint.reader import Checkpoint
from models.mf import MatrixFactorization
from models.scoring import dot_all, gather_dot, square_root

NOTHING = -1  # fills a list that has fewer than N candidates
LOWER_BOUND_DEVIATIONS = 1.645  # of a normal distribution: 5 % are below

BLOCK_CELLS = {"cpu": 1 << 21, "cuda": 1 << 23}  # scores held at once; on the CPU 8 MiB: half or twice is 5 % slower
ONE_BY_ONE = 3  # users on the CPU: of 100,000 × 64, one takes 1.9 ms alone; in blocks two take 6.4, four 5.4
MIN_BLOCK_ROWS = 2048  # for batches of more than a thousand users
STRETCH = 32  # items whose highest score is looked at before any of them
STRIPES = 64  # of a user's scores, the highest of each of which stands in for all where a low bound is enough
DIRECT_NUMBERS = 1 << 20  # of a table: up to 1.4 million, exact scores of all items come before a bound and candidates
SPARSE = 4  # allowed items are gathered where they are fewer than one in so many
LOWEST = torch.finfo(torch.float32).min  # above −inf, which marks what is excluded
EMPTY = torch.iinfo(torch.int64).min
LOW_BITS = 0xFFFFFFFF

# How much of ‖x‖·‖y‖ the settings of torch may cost a product by rounding its operands, beside float32's own rounding.
PRODUCT_ERROR = {"highest": 0.0, "high": 2**-9, "medium": 2**-6}


Search: TypeAlias = Generator[None, None, Tensor]


class Users(NamedTuple):
    """What an ordering knows of users: x, b and v as in `Ordering`, None what it does not know. One row a user."""

    factors: Tensor | None
    bias: Tensor | None
    variance: Tensor | None

    def take(self, users_B: Tensor) -> Users:
        """The rows of some users."""
        return Users(*(None if table is None else table[users_B] for table in self))

    def to(self, device: torch.device) -> Users:
        return Users(*(None if table is None else table.to(device) for table in self))

    def given(self, factors_G: Tensor | None, bias: float, variance: float | None) -> Users:
        """The row of a user that is given, of which only what is known of the others is kept."""

        def row(value: float | None, table: Tensor | None) -> Tensor | None:
            return None if table is None or value is None else torch.tensor([value])

        factors = None if factors_G is None or self.factors is None else factors_G[None]
        return Users(factors, row(bias, self.bias), row(variance, self.variance))


@dataclass(frozen=True, eq=False, kw_only=True)
class Ordering:
    """What puts items in order for a user: x_u·y_i, then + b_u + b_i + μ, then − z·√(v_u + w_i), in float32.

    The tables are finite, on one device, and none of their scores overflows. Those of users and items end with the row
    for unknown ids, as a model's do.

    Attributes:
        item_factors: y, shape (I+1, G).
        user_factors: x, shape (U+1, G); None where G is 0 and every user gets the same order.
        item_bias: b_i, shape (I+1,), or None.
        user_bias: b_u, shape (U+1,), or None.
        mean: μ, shape (), or None.
        user_variance, item_variance: v and w, shapes (U+1,) and (I+1,), or None; z is `LOWER_BOUND_DEVIATIONS`.
    """

    item_factors: Tensor
    user_factors: Tensor | None = None
    item_bias: Tensor | None = None
    user_bias: Tensor | None = None
    mean: Tensor | None = None
    user_variance: Tensor | None = None
    item_variance: Tensor | None = None

    @property
    def items(self) -> int:
        """I, the number of known items."""
        return self.item_factors.shape[0] - 1

    @property
    def device(self) -> torch.device:
        return self.item_factors.device

    @cached_property
    def is_on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @cached_property
    def is_small(self) -> bool:
        """Whether one user's list is quickest found by scoring every item exactly."""
        return self.item_factors.numel() <= DIRECT_NUMBERS

    @property
    def users(self) -> Users:
        """The users' tables."""
        return Users(self.user_factors, self.user_bias, self.user_variance)

    def of_users(self, users: Users) -> Ordering:
        """The same order of the same items for users whose rows are given, on any device."""
        factors, bias, variance = users.to(self.device)
        ordering = replace(self, user_factors=factors, user_bias=bias, user_variance=variance)
        vars(ordering).update(_item_norm=self._item_norm, _item_magnitude=self._item_magnitude)  # of the same items
        return ordering

    def of_user(self, factors_G: Tensor | None, bias: float, variance: float | None) -> Ordering:
        """As `of_users`, for a user whose row is given: user 0, the only one."""
        return self.of_users(self.users.given(factors_G, bias, variance))

    def exact(self, users_M: Tensor, items_M: Tensor) -> Tensor:
        """The score of each pair, float32 (M,): its bits depend on the pair alone. Row numbers are on the device."""
        scores_M = self._dot(users_M, items_M)
        for table, rows_M in ((self.user_bias, users_M), (self.item_bias, items_M)):
            if table is not None:
                scores_M = scores_M + table[rows_M]
        if self.mean is not None:
            scores_M = scores_M + self.mean
        if self.user_variance is not None and self.item_variance is not None:
            variance_M = self.user_variance[users_M] + self.item_variance[items_M]
            scores_M = scores_M - LOWER_BOUND_DEVIATIONS * square_root(variance_M)
        return scores_M

    def exact_for_all(self, user: int) -> npt.NDArray[np.float32]:
        """The bits of `exact` for one user and every item, shape (I,); on the CPU alone."""
        tables = self._arrays
        factors = tables["item_factors"]
        user_G = factors[0] if self.user_factors is None else tables["user_factors"][user]
        scores_I = dot_all(user_G, factors[:-1])
        if self.user_bias is not None:
            scores_I += tables["user_bias"][user]
        if self.item_bias is not None:
            scores_I += tables["item_bias"][:-1]
        if self.mean is not None:
            scores_I += tables["mean"]
        if self.user_variance is not None:
            variance_I = tables["user_variance"][user] + tables["item_variance"][:-1]
            scores_I -= np.float32(LOWER_BOUND_DEVIATIONS) * np.sqrt(variance_I)
        return scores_I

    def products(self, users_B: Tensor, columns_GB: Tensor, rows: slice | Tensor, out_RB: Tensor) -> None:
        """Write about what `exact` gives for some items, less `constant`, into `out_RB`, by one matrix product.

        `columns_GB` is `user_rows` transposed; `rows` are those of R known items.
        """
        y_RG = self.item_factors[rows]
        if out_RB.shape[1] == 1:
            torch.mv(y_RG, columns_GB[:, 0], out=out_RB[:, 0])
        else:
            torch.mm(y_RG, columns_GB, out=out_RB)
        if self.item_bias is not None:
            out_RB += self.item_bias[rows, None]
        if self.user_variance is not None and self.item_variance is not None:
            variance_RB = self.item_variance[rows, None] + self.user_variance[users_B]
            out_RB -= square_root(variance_RB).mul_(LOWER_BOUND_DEVIATIONS)

    def user_rows(self, users_B: Tensor) -> Tensor:
        """x of each user, shape (B, G)."""
        if self.user_factors is None:
            return self.item_factors.new_zeros(len(users_B), 0)
        return self.user_factors[users_B]

    def constant(self, users_B: Tensor) -> Tensor:
        """What `exact` adds for each user whatever the item, float64 (B,)."""
        constant_B = torch.zeros(len(users_B), dtype=torch.float64, device=self.device)
        if self.user_bias is not None:
            constant_B += self.user_bias[users_B]
        if self.mean is not None:
            constant_B += self.mean
        return constant_B

    def error(self, users_B: Tensor) -> Tensor:
        """A bound for each user on |score by matrix product + constant − exact| over all items, float64 (B,).

        A dot product of G terms in any order is off by at most γ·Σ|x_f·y_f| ≤ γ·‖x‖·‖y‖ with γ ≈ G·2⁻²⁴ (Higham,
        Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and each of the fewer than eight operations
        after it by 2⁻²⁴ of the largest value that it can meet. Both sides round, hence twice that. The last term covers
        products that are too small for float32 or are set to zero for that.
        """
        x_BG = self.user_rows(users_B)
        norm_B = x_BG.double().norm(dim=1)
        product_B = norm_B * self._item_norm
        magnitude_B = product_B + self._item_magnitude
        if self.user_bias is not None:
            magnitude_B += self.user_bias[users_B].abs()
        if self.mean is not None:
            magnitude_B += self.mean.abs()
        if self.user_variance is not None:
            magnitude_B += LOWER_BOUND_DEVIATIONS * self.user_variance[users_B].double().sqrt()
        factors = x_BG.shape[1]
        error_B: Tensor = (factors + 16) * 2.0**-23 * 1.0625 * magnitude_B
        error_B += (factors + 4) * 2.0**-125 * (1 + norm_B + self._item_norm)
        error_B += PRODUCT_ERROR[torch.get_float32_matmul_precision()] * product_B
        return error_B

    def _dot(self, users_M: Tensor, items_M: Tensor) -> Tensor:
        if self.user_factors is None:
            return torch.zeros(len(items_M), device=self.device)
        return gather_dot(self.user_factors, self.item_factors, users_M, items_M)

    @cached_property
    def _item_norm(self) -> float:
        """The largest ‖y_i‖ of a known item."""
        blocks = self.item_factors[:-1].split(1 << 16)
        return max((float(block.double().norm(dim=1).max()) for block in blocks if len(block)), default=0.0)

    @cached_property
    def _item_magnitude(self) -> float:
        """The most that an item's bias and variance add to the size of a score."""
        if self.items == 0:
            return 0.0
        bias = 0.0 if self.item_bias is None else float(self.item_bias[:-1].abs().max())
        variance = 0.0 if self.item_variance is None else float(self.item_variance[:-1].max())
        return bias + LOWER_BOUND_DEVIATIONS * math.sqrt(variance)

    @cached_property
    def _arrays(self) -> Mapping[str, npt.NDArray[np.float32]]:
        return {name: table.numpy() for name, table in vars(self).items() if isinstance(table, Tensor)}


def by_rating(model: MatrixFactorization) -> Ordering:
    """Order by the expected rating r̂, unclipped: `exact` is `model.forward`."""
    return Ordering(
        user_factors=model.user_factors,
        item_factors=model.item_factors,
        user_bias=model.user_bias,
        item_bias=model.item_bias,
        mean=model.mean,
    )


def by_lower_bound(model: MatrixFactorization) -> Ordering:
    """Order by r̂ − 1.645·√(user_variance + item_variance).

    That is the lower end of the central 90 % interval of the expected rating. What single ratings scatter around their
    expectation (`noise_variance`) is left out: it is the same for every item.
    Raises ValueError for a model without variances.
    """
    if model.user_variance is None or model.item_variance is None:
        raise ValueError("the model has no variances")
    return Ordering(
        user_factors=model.user_factors,
        item_factors=model.item_factors,
        user_bias=model.user_bias,
        item_bias=model.item_bias,
        mean=model.mean,
        user_variance=model.user_variance,
        item_variance=model.item_variance,
    )


def by_factors(user_factors: Tensor, item_factors: Tensor) -> Ordering:
    """Order by x·y, for tables of shapes (U+1, G) and (I+1, G)."""
    return Ordering(user_factors=user_factors, item_factors=item_factors)


def by_popularity(counts_I: Tensor) -> Ordering:
    """Order by the number of ratings, int32 (I,), the same for every user. Counts above 2²⁴ are rounded to float32."""
    counts = torch.cat([counts_I, counts_I.new_zeros(1)]).float()
    return Ordering(item_factors=counts.new_zeros(len(counts), 0), item_bias=counts)


def orderings(checkpoint: Checkpoint) -> Mapping[str, Ordering]:
    """Every ordering that a checkpoint has, by the name that `rank_by` calls it."""
    named = {"rating": by_rating(checkpoint.model)}
    if checkpoint.model.user_variance is not None:
        named["lower_bound"] = by_lower_bound(checkpoint.model)
    if checkpoint.relevance is not None:
        named["relevance"] = by_factors(**checkpoint.relevance.tensors())
    return named


def default_order(names: Container[str]) -> str:
    """What orders lists by default, among these orderings: relevance where there is one, else the rating."""
    return "relevance" if "relevance" in names else "rating"


def top_items(
    ordering: Ordering,
    users_B: Tensor,
    n: int,
    *,
    excluded: tuple[Tensor, Tensor] | None = None,
    allowed_I: Tensor | None = None,
) -> Tensor:
    """The n best items of each user, best first, int64 (B, n), on the device of the ordering.

    Ordered by falling `ordering.exact`, equal ones by row; where fewer than n items are left, `NOTHING` fills the list.

    Args:
        ordering: what orders them.
        users_B: rows of users, int64; that of unknown users is one like any other.
        n: length of the lists, at least 1.
        excluded: items left out for each user, as offsets (B+1,) int64 and item rows (M,); repetitions do no harm.
        allowed_I: items to choose from, bool (I,); None for all.
    """
    if _is_one_by_one(ordering, users_B):
        each = _each(ordering, users_B, n, excluded, allowed_I)
        return torch.stack([_padded(items_K, n, NOTHING) for items_K, _ in each])
    (keys_BN,) = by_turns([search(ordering, users_B, n, excluded, allowed_I)])
    return items_of(keys_BN)


def search(
    ordering: Ordering, users_B: Tensor, n: int, excluded: tuple[Tensor, Tensor] | None, allowed_I: Tensor | None
) -> Search:
    """`top_items` as keys, int64 (B, n), each list in falling order: the larger key is the better item.

    It is a generator, which stops after each matrix product that it has launched and not waited for, and returns them.
    """
    if _is_one_by_one(ordering, users_B):
        each = _each(ordering, users_B, n, excluded, allowed_I)
        return torch.stack([_padded(keys_of(exact_K, items_K), n, EMPTY) for items_K, exact_K in each])
    users_B = users_B.to(ordering.device)
    if ordering.device.type == "meta":
        return users_B.new_empty(len(users_B), n)
    return (yield from _Search(ordering, users_B, n, excluded, allowed_I).steps())


def by_turns(searches: Sequence[Search]) -> list[Tensor]:
    """What each search returns. They take turns: all have launched a product before the first waits for its own."""
    found: dict[int, Tensor] = {}
    while len(found) < len(searches):
        for number, steps in enumerate(searches):
            if number in found:
                continue
            try:
                next(steps)
            except StopIteration as done:
                found[number] = done.value
    return [found[number] for number in range(len(searches))]


def keys_of(scores: Tensor, items: Tensor) -> Tensor:
    """Numbers that stand in the order of lists, int64: the bits of the score (float32), then those of the item's row.

    No two items have the same key, and none has `EMPTY`, which is below all.
    """
    return (_ordered_bits(scores) << 32) | (LOW_BITS - items)


def items_of(keys: Tensor) -> Tensor:
    """The item's row in a key; `NOTHING` for `EMPTY`."""
    return torch.where(keys == EMPTY, NOTHING, LOW_BITS - (keys & LOW_BITS))


def scores_of(keys: Tensor) -> Tensor:
    """The score in a key: `_ordered_bits` backwards."""
    bits = (keys >> 32).to(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).view(torch.float32)


def _is_one_by_one(ordering: Ordering, users_B: Tensor) -> bool:
    return ordering.is_on_cpu and 0 < len(users_B) <= ONE_BY_ONE


def _each(
    ordering: Ordering, users_B: Tensor, n: int, excluded: tuple[Tensor, Tensor] | None, allowed_I: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each user of a batch on the CPU the best items and their scores, int64 and float32, at most n."""
    allowed = None if allowed_I is None else allowed_I.numpy()
    for row, user in enumerate(users_B.tolist()):
        excluded_M = None if excluded is None else excluded[1][excluded[0][row] : excluded[0][row + 1]].numpy()
        items_K, exact_K = _best_of_one(ordering, user, n, excluded_M, allowed)
        yield torch.from_numpy(items_K), torch.from_numpy(exact_K)


def _padded(values_K: Tensor, n: int, filling: int) -> Tensor:
    """At most n int64 values, and what fills up to n."""
    padded_N = torch.full((n,), filling)
    padded_N[: len(values_K)] = values_K
    return padded_N


class Scored(Protocol):
    """What `top_among` needs of an ordering."""

    @property
    def device(self) -> torch.device: ...

    def exact(self, users_M: Tensor, items_M: Tensor) -> Tensor: ...


def top_among(ordering: Scored, user: int, rows_C: Tensor, n: int) -> Tensor:
    """The n best of the given distinct item rows for one user, ordered as by `top_items`, int64 (min(n, C),)."""
    rows_C = rows_C.to(ordering.device, torch.int64).sort().values
    scores_C = ordering.exact(torch.full_like(rows_C, user), rows_C)
    return rows_C[scores_C.argsort(descending=True, stable=True)[:n]]


def top_of_one(
    ordering: Ordering,
    user: int,
    n: int,
    *,
    excluded_M: npt.NDArray[np.integer[Any]] | None = None,
    allowed_I: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """`top_items` of one user on the CPU, at most n rows, in a few calls of numpy, which start faster than torch's."""
    return _best_of_one(ordering, user, n, excluded_M, allowed_I)[0]


def _best_of_one(
    ordering: Ordering,
    user: int,
    n: int,
    excluded_M: npt.NDArray[np.integer[Any]] | None,
    allowed_I: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """`top_of_one` and the exact scores."""
    if ordering.is_small:
        scores_I, margin = ordering.exact_for_all(user), 0.0
    else:
        users_1 = torch.tensor([user])
        scores_I, margin = _products_of_one(ordering, users_1, _sparse(allowed_I)), 2 * float(ordering.error(users_1))
    if allowed_I is not None:
        np.copyto(scores_I, -np.inf, where=~allowed_I)
    if excluded_M is not None:
        scores_I[excluded_M] = -np.inf
    candidates_C = np.flatnonzero(scores_I >= _rounded_down(_below_best(scores_I, n) - margin))
    if ordering.is_small:
        exact_C = scores_I[candidates_C]
    else:
        rows_C = torch.from_numpy(candidates_C)
        exact_C = ordering.exact(users_1.expand(len(rows_C)), rows_C).numpy()
    best_N = (-exact_C).argsort(kind="stable")[:n]
    return candidates_C[best_N], exact_C[best_N]


def _products_of_one(ordering: Ordering, users_1: Tensor, rows_A: Tensor | None) -> npt.NDArray[np.float32]:
    """`Ordering.products` of one user for all items, or for some and −inf for the others, shape (I,)."""
    columns_G1 = ordering.user_rows(users_1).T
    rows = slice(0, ordering.items) if rows_A is None else rows_A
    scores_R1 = torch.empty(ordering.items if rows_A is None else len(rows_A), 1)
    ordering.products(users_1, columns_G1, rows, scores_R1)
    if rows_A is None:
        return scores_R1.numpy()[:, 0]
    scores_I = np.full(ordering.items, -np.inf, dtype=np.float32)
    scores_I[rows_A.numpy()] = scores_R1.numpy()[:, 0]
    return scores_I


def _sparse(allowed_I: Tensor | npt.NDArray[np.bool_] | None) -> Tensor | None:
    """The allowed items where they are few: only these are then scored."""
    if allowed_I is None or SPARSE * int(allowed_I.sum()) > len(allowed_I):
        return None
    return torch.as_tensor(allowed_I).nonzero()[:, 0]


def _rounded_down(threshold: float) -> np.float32:
    """In float32 and above −inf, so that what is excluded never reaches it."""
    return (
        np.float32(max(threshold - abs(threshold) * 2.0**-23, LOWEST)) if np.isfinite(threshold) else np.float32(LOWEST)
    )


def _below_best(scores_I: npt.NDArray[np.float32], n: int) -> float:
    """A number that at least n of the scores reach and few others do; −inf where there are no n scores."""
    whole = len(scores_I) // STRETCH * STRETCH
    if whole and 2 * n <= STRETCH:
        scores_I = (
            scores_I[:whole].reshape(-1, STRETCH).max(axis=0)
        )  # n of these are n scores, and quicker to partition
    return float(np.partition(scores_I, -n)[-n]) if n <= len(scores_I) else -np.inf


class _Search:
    """One call of `top_items`: goes through the items block by block, keeping the best so far.

    Args:
        as `top_items` takes them.

    Attributes:
        best_BN: keys of the best items so far in falling order.
        threshold_B: an item whose score by matrix product is below it cannot enter the user's list.
    """

    def __init__(
        self,
        ordering: Ordering,
        users_B: Tensor,
        n: int,
        excluded: tuple[Tensor, Tensor] | None,
        allowed_I: Tensor | None,
    ) -> None:
        device, batch = ordering.device, len(users_B)
        self.ordering, self.users_B, self.n = ordering, users_B, n
        self.allowed_I = None if allowed_I is None else allowed_I.to(device)
        self.rows_A = _sparse(self.allowed_I)
        self.columns_GB = ordering.user_rows(users_B).T.contiguous()
        self.error_B = ordering.error(users_B)
        self.constant_B = ordering.constant(users_B)
        self.best_BN = torch.full((batch, n), EMPTY, device=device)
        self.threshold_B = torch.full((batch,), LOWEST, device=device)
        self.excluded_M = torch.empty(0, dtype=torch.int64, device=device)
        if excluded is not None:
            self.excluded_M = self._cells(excluded[0].to(device), excluded[1].to(device))

    def steps(self) -> Search:
        """The keys of the best; stops wherever a product is launched."""
        pending: list[tuple[Tensor, Tensor]] = []
        count, enough = 0, max(len(self.users_B) * self.n, STRETCH)
        for begin, scores_RB in self._blocks():
            yield
            highest_SB = scores_RB.view(-1, STRETCH, len(self.users_B)).amax(1)
            if begin == 0:
                self._warm_up(scores_RB, highest_SB)
            positions_K, rows_K = self._candidates(scores_RB, highest_SB)
            if len(rows_K):
                pending.append((positions_K + begin, rows_K))
                count += len(rows_K)
            if count >= enough:
                self._settle(pending)
                pending, count = [], 0
        if pending:
            self._settle(pending)
        return self.best_BN

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        """The first position of each block and its scores, −inf where excluded, shape (R, B), in one buffer for all."""
        batch, total = len(self.users_B), self.ordering.items if self.rows_A is None else len(self.rows_A)
        if batch == 0 or total == 0:
            return
        height = max(MIN_BLOCK_ROWS, BLOCK_CELLS.get(self.ordering.device.type, BLOCK_CELLS["cuda"]) // batch)
        height = -(-min(height, total) // STRETCH) * STRETCH
        buffer_RB = self.columns_GB.new_empty(height, batch)
        begins = range(0, total, height)
        bounds = torch.tensor([*begins, total], device=self.ordering.device) * batch
        cuts = torch.searchsorted(self.excluded_M, bounds).tolist()
        for index, begin in enumerate(begins):
            size = min(height, total - begin)
            filled = -(-size // STRETCH) * STRETCH
            block = slice(begin, begin + size)
            rows = block if self.rows_A is None else self.rows_A[block]
            self.ordering.products(self.users_B, self.columns_GB, rows, buffer_RB[:size])
            if self.allowed_I is not None and self.rows_A is None:
                buffer_RB[:size] += torch.where(self.allowed_I[block, None], 0.0, -torch.inf)
            buffer_RB[size:filled] = -torch.inf
            cells = self.excluded_M[cuts[index] : cuts[index + 1]]
            if len(cells):
                buffer_RB.view(-1).index_fill_(0, cells - begin * batch, -torch.inf)
            yield begin, buffer_RB[:filled]

    def _warm_up(self, scores_RB: Tensor, highest_SB: Tensor) -> None:
        """Set the threshold below n scores of the first block, if it has as many: each user's list will reach these."""
        scores = highest_SB if 2 * self.n <= len(highest_SB) else scores_RB
        if self.n <= len(scores):
            self._raise_threshold(scores.topk(self.n, dim=0).values[-1] - 2 * self.error_B)

    def _candidates(self, scores_RB: Tensor, highest_SB: Tensor) -> tuple[Tensor, Tensor]:
        """Position in the block and row of the batch of every score that reaches the threshold, both int64 (K,)."""
        stretches_H, rows_H = (highest_SB >= self.threshold_B).nonzero(as_tuple=True)
        if len(rows_H) == 0:
            return rows_H, rows_H
        scores_HS = scores_RB.view(-1, STRETCH, len(self.users_B))[stretches_H, :, rows_H]
        hits_K, inside_K = (scores_HS >= self.threshold_B[rows_H, None]).nonzero(as_tuple=True)
        return stretches_H[hits_K] * STRETCH + inside_K, rows_H[hits_K]

    def _settle(self, pending: list[tuple[Tensor, Tensor]]) -> None:
        """Score candidates exactly, keep the best, and raise the threshold to what the last of a list now asks for."""
        items_K, rows_K = (torch.cat(part) for part in zip(*pending, strict=True))
        if self.rows_A is not None:
            items_K = self.rows_A[items_K]
        exact_K = self.ordering.exact(self.users_B[rows_K], items_K)
        keys_K = keys_of(exact_K, items_K)
        better_K = keys_K > self.best_BN[rows_K, -1]
        padded_BW = _by_row(rows_K[better_K], keys_K[better_K], len(self.users_B))
        self.best_BN = torch.cat([self.best_BN, padded_BW], dim=1).topk(self.n, dim=1).values
        last_B = self.best_BN[:, -1]
        reached_B = torch.where(last_B == EMPTY, -torch.inf, scores_of(last_B).double())
        self._raise_threshold(reached_B - self.constant_B - self.error_B)

    def _raise_threshold(self, wanted_B: Tensor) -> None:
        """Raise to float64 values, rounded down; what is not finite says nothing."""
        lowered_B = (wanted_B - wanted_B.abs() * 2.0**-23).nan_to_num(LOWEST, LOWEST, LOWEST).float()
        self.threshold_B = torch.maximum(self.threshold_B, lowered_B)

    def _cells(self, offsets: Tensor, items_M: Tensor) -> Tensor:
        """Excluded cells as position · B + row of the batch, ascending, int64."""
        batch = len(self.users_B)
        rows_M = torch.repeat_interleave(offsets.diff(), output_size=len(items_M))
        positions_M = items_M.to(torch.int64)
        if self.rows_A is not None and self.allowed_I is not None:
            held_M = self.allowed_I[positions_M]
            positions_M, rows_M = torch.searchsorted(self.rows_A, positions_M[held_M]), rows_M[held_M]
        return _sorted(positions_M * batch + rows_M)


def _by_row(rows_K: Tensor, keys_K: Tensor, rows: int) -> Tensor:
    """Keys in a table with a line for each row, shape (rows, W), filled with `EMPTY` where W are not there."""
    order_K = rows_K.argsort(stable=True)
    rows_K, keys_K = rows_K[order_K], keys_K[order_K]
    counts_B = torch.bincount(rows_K, minlength=rows)
    table_BW = keys_K.new_full((rows, int(counts_B.max())), EMPTY)
    starts_B = counts_B.cumsum(0) - counts_B
    table_BW[rows_K, torch.arange(len(rows_K), device=rows_K.device) - starts_B[rows_K]] = keys_K
    return table_BW


def _sorted(values: Tensor) -> Tensor:
    """Ascending; numpy sorts several times as fast as torch on the CPU."""
    return torch.from_numpy(np.sort(values.numpy())) if values.device.type == "cpu" else values.sort().values


def _ordered_bits(scores: Tensor) -> Tensor:
    """Map float32 to int64 so that integer order is numeric order: negative floats have their magnitude flipped."""
    bits = (scores + 0.0).view(torch.int32)  # adding zero turns −0.0 into 0.0: they compare equal, so must their bits
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
