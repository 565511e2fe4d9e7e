"""Top-N for a batch of users, block by block: products propose candidates, exact scores decide, thresholds rise.

The difference between a product and the score of `models.scoring` is bounded. A score and its item are one
number, a key, so that devices can merge and select lists in their order. Shapes: I items, G factors, B users of a
batch, N list length, M excluded cells, K candidates, R items of a block, S stretches of a block.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import torch
from torch import Tensor

from models.scoring import LOWER_BOUND_DEVIATIONS, BilinearForm, square_root

BLOCK_CELLS = {"cpu": 1 << 21, "cuda": 1 << 23}  # scores held at once; on the CPU 8 MiB: half or twice is 5 % slower
MIN_BLOCK_ROWS = 2048  # for batches of more than a thousand users
STRETCH = 32  # items whose highest score is looked at before any of them
SPARSE = 4  # allowed items are gathered where they are fewer than one in so many
LOWEST = torch.finfo(torch.float32).min  # above −inf, which marks what is excluded
NOTHING = -1  # fills a list that has fewer than N candidates
EMPTY = torch.iinfo(torch.int64).min
LOW_BITS = 0xFFFFFFFF
# The error of a product from rounding its operands, as a share of ‖x‖·‖y‖, by torch's setting of the precision.
PRODUCT_ERROR = {"highest": 0.0, "high": 2**-9, "medium": 2**-6}


def keys_of(scores: Tensor, items: Tensor) -> Tensor:
    """Numbers in the order of lists, int64: the bits of the score (float32), then those of the item's row.

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


def _ordered_bits(scores: Tensor) -> Tensor:
    """Map float32 to int64 so that integer order is numeric order: negative floats have their magnitude flipped."""
    bits = (scores + 0.0).view(torch.int32)  # adding zero turns −0.0 into 0.0: they compare equal, so must their bits
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)


def write_products(
    form: BilinearForm, users_B: Tensor, columns_GB: Tensor, rows: slice | Tensor, out_RB: Tensor
) -> None:
    """Write the approximate scores of some items, less `constant`, into `out_RB`, by one matrix product.

    `columns_GB` is `user_rows` transposed; `rows` are those of R known items.
    """
    y_RG = form.item_factors[rows]
    if out_RB.shape[1] == 1:
        torch.mv(y_RG, columns_GB[:, 0], out=out_RB[:, 0])
    else:
        torch.mm(y_RG, columns_GB, out=out_RB)
    users, items = form.users, form.items
    if items.bias is not None:
        out_RB += items.bias[rows, None]
    if users.variance is not None and items.variance is not None:
        variance_RB = items.variance[rows, None] + users.variance[users_B]
        out_RB -= square_root(variance_RB).mul_(LOWER_BOUND_DEVIATIONS)


def user_rows(form: BilinearForm, users_B: Tensor) -> Tensor:
    """x of each user, shape (B, G)."""
    if form.users.factors is None:
        return form.item_factors.new_zeros(len(users_B), 0)
    return form.users.factors[users_B]


def constant(form: BilinearForm, users_B: Tensor) -> Tensor:
    """The part of `exact` that is the same for all items, of each user, float64 (B,)."""
    constant_B = torch.zeros(len(users_B), dtype=torch.float64, device=form.device)
    if form.users.bias is not None:
        constant_B += form.users.bias[users_B]
    if form.mean is not None:
        constant_B += form.mean
    return constant_B


def error(form: BilinearForm, users_B: Tensor) -> Tensor:
    """A bound for each user on |score by matrix product + constant − exact| over all items, float64 (B,).

    A dot product of G terms in any order is off by at most γ·Σ|x_f·y_f| ≤ γ·‖x‖·‖y‖ with γ ≈ G·2⁻²⁴ (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and each of the fewer than eight operations
    after it by 2⁻²⁴ of its largest operand. Both sides round, hence twice that. The last term covers
    products that are too small for float32 or are flushed to zero.
    """
    x_BG, users, norm = user_rows(form, users_B), form.users, form.items.largest_norm
    norm_B = x_BG.double().norm(dim=1)
    product_B = norm_B * norm
    magnitude_B = product_B + form.items.largest_offset
    if users.bias is not None:
        magnitude_B += users.bias[users_B].abs()
    if form.mean is not None:
        magnitude_B += form.mean.abs()
    if users.variance is not None:
        magnitude_B += LOWER_BOUND_DEVIATIONS * users.variance[users_B].double().sqrt()
    factors = x_BG.shape[1]
    error_B: Tensor = (factors + 16) * 2.0**-23 * 1.0625 * magnitude_B
    error_B += (factors + 4) * 2.0**-125 * (1 + norm_B + norm)
    error_B += PRODUCT_ERROR[torch.get_float32_matmul_precision()] * product_B
    return error_B


class BlockSearch:
    """One call of `search.top_items`. It goes through the items block by block and keeps the best so far.

    Args:
        those of `top_items`.

    Attributes:
        best_BN: keys of the best items so far in falling order.
        threshold_B: an item whose score by matrix product is below it cannot enter the user's list.
    """

    def __init__(
        self,
        ordering: BilinearForm,
        users_B: Tensor,
        n: int,
        excluded: tuple[Tensor, Tensor] | None,
        allowed_I: Tensor | None,
    ) -> None:
        device, batch = ordering.device, len(users_B)
        self.ordering, self.users_B, self.n = ordering, users_B, n
        self.allowed_I = None if allowed_I is None else allowed_I.to(device)
        self.rows_A = few_allowed(self.allowed_I)
        self.columns_GB = user_rows(ordering, users_B).T.contiguous()
        self.error_B = error(ordering, users_B)
        self.constant_B = constant(ordering, users_B)
        self.best_BN = torch.full((batch, n), EMPTY, device=device)
        self.threshold_B = torch.full((batch,), LOWEST, device=device)
        self.excluded_M = torch.empty(0, dtype=torch.int64, device=device)
        if excluded is not None:
            self.excluded_M = self._cells(excluded[0].to(device), excluded[1].to(device))

    def steps(self) -> Generator[None, None, Tensor]:
        """Returns the keys of the best items; yields after each product that it has launched."""
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
                self._decide(pending)
                pending, count = [], 0
        if pending:
            self._decide(pending)
        return self.best_BN

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        """The first position of each block and its scores, −inf where excluded, shape (R, B), in one buffer for all."""
        batch, total = len(self.users_B), self.ordering.item_count if self.rows_A is None else len(self.rows_A)
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
            write_products(self.ordering, self.users_B, self.columns_GB, rows, buffer_RB[:size])
            if self.allowed_I is not None and self.rows_A is None:
                buffer_RB[:size] += torch.where(self.allowed_I[block, None], 0.0, -torch.inf)
            buffer_RB[size:filled] = -torch.inf
            cells = self.excluded_M[cuts[index] : cuts[index + 1]]
            if len(cells):
                buffer_RB.view(-1).index_fill_(0, cells - begin * batch, -torch.inf)
            yield begin, buffer_RB[:filled]

    def _warm_up(self, scores_RB: Tensor, highest_SB: Tensor) -> None:
        """Set the threshold below the n best scores of the first block, if it has n: no list ends lower."""
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

    def _decide(self, pending: list[tuple[Tensor, Tensor]]) -> None:
        """Score candidates exactly, keep the best, and raise the threshold to the last score of each list."""
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
        """Raise the threshold to float64 values, rounded down; values that are not finite are ignored."""
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
    """Keys in a table with a line for each row, shape (rows, W), padded with `EMPTY`."""
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


def few_allowed(allowed_I: Tensor | None) -> Tensor | None:
    """The allowed items if they are few, because then only these are scored; else None."""
    if allowed_I is None or SPARSE * int(allowed_I.sum()) > len(allowed_I):
        return None
    return allowed_I.nonzero()[:, 0]
