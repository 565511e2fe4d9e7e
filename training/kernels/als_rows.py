"""What solves the rows of one side in alternating least squares: `als_cpu` and `als_torch` have one each.

Shapes: R rows, C columns of the rating matrix, K width of a table: factors, zeros up to a multiple of 8, bias last if
there is one.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Rows(Protocol):
    """The values of one side grouped by row, ready to be solved again and again."""

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
