"""What solves the rows of one side in alternating least squares: `als_cpu` and `als_torch` have one each.

Shapes: R rows, C columns of the rating matrix, K width of a table: factors, zeros up to a multiple of 8, bias last if
there is one.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Solver(Protocol):
    """One side, ready to be solved again and again."""

    def solve(
        self,
        other_CK: Tensor,
        ridge_R: Tensor,
        bias_ridge: float | None,
        out_RK: Tensor,
        prior_KK: Tensor | None = None,
    ) -> Tensor:
        """Overwrite `out_RK` with the best rows against the other side's; return their error, 0-dimensional.

        `als_reference.solve_rows` says what is minimised.

        Args:
            other_CK: the other side's table.
            ridge_R: penalty of each row's factors.
            bias_ridge: penalty of a bias; None where tables have none.
            out_RK: is overwritten.
            prior_KK: a Gram matrix that is added to each row's own; None for none.
        """
        ...


class Rows(Solver, Protocol):
    """The values of one side grouped by row."""

    def sums(self, other_CK: Tensor, *, biased: bool) -> Tensor:
        """What the rows' solutions depend on beside the penalties, packed: (R, `packed_width`).

        Sums over parts of the ratings add up to those over all. A packed row is Σ a aᵀ above and on its diagonal, row
        by row, then Σ t a, then Σ t², as in `als_cpu`.
        """
        ...

    def solve_sums(
        self,
        sums_RS: Tensor,
        ridge_R: Tensor,
        bias_ridge: float | None,
        out_RK: Tensor,
        prior_KK: Tensor | None = None,
    ) -> Tensor:
        """As `solve`, from the sums of any rows: those of this object do not matter."""
        ...


def packed_width(width: int) -> int:
    """S: numbers in a packed row of sums."""
    return width * (width + 1) // 2 + width + 1
