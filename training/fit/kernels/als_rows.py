"""Half a sweep of alternating least squares, as values: what is solved, and what solves it.

Shapes: R rows, C columns of the rating matrix, K width of a table: factors, zeros up to a multiple of 8, bias last if
there is one. S is the width of a packed row of sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class HalfStep:
    """For each row r: minimise Σ (z − [p, b]·[q_c, 1] − b_c)² + ridge_r |p|² + bias_ridge b² over its ratings z.

    `other_CK` are the rows [q, b]. Where `bias_ridge` is None there are no biases, and p·q_c stands for the prediction.
    A Gram matrix A, `prior_KK`, adds xᵀ A x to the error of a row x.
    """

    other_CK: Tensor
    ridge_R: Tensor
    bias_ridge: float | None = None
    prior_KK: Tensor | None = None

    @property
    def biased(self) -> bool:
        return self.bias_ridge is not None

    def against(self, other_CK: Tensor) -> HalfStep:
        """The same with another table on the other side."""
        return replace(self, other_CK=other_CK)

    def of(self, rows: Tensor | slice) -> HalfStep:
        """The same for some of the rows."""
        return replace(self, ridge_R=self.ridge_R[rows])


class Solver(Protocol):
    """One side, ready to be solved again and again."""

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        """Overwrite `out_RK` with the best rows; return Σ (z − ẑ)² over all ratings + Σ xᵀ A x, 0-dimensional."""


class Rows(Solver, Protocol):
    """The ratings of one side grouped by row."""

    def sums(self, step: HalfStep) -> Tensor:
        """What the solutions depend on beside the penalties, packed: (R, S).

        A packed row is Σ a aᵀ on and above its diagonal, row by row, then Σ t a, then Σ t², with a = [q, 1] and
        t = z − b. Sums over parts of the ratings add up to those over all.
        """

    def solve_sums(self, sums_RS: Tensor, step: HalfStep, out_RK: Tensor) -> Tensor:
        """Like `solve`, but from packed sums. This object's ratings and the other side's table are not used."""


def packed_width(width: int) -> int:
    """S, from the width of a table."""
    return width * (width + 1) // 2 + width + 1
