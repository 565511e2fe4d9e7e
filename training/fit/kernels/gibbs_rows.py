"""The heavy steps of the Gibbs sampler for the rows of one side: what they are given, and what computes them.

`gibbs_reference` says what each step computes; `gibbs_cpu` and `gibbs_torch` compute it fast.
Shapes: R rows of one side, C of the other, K table width (factors, then bias).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

Normal = Callable[[int, int], Tensor]  # standard normal numbers in the shape asked for


class RowState(NamedTuple):
    """What the rows are drawn from: N(A⁻¹ (s h + Λ m), A⁻¹) with A = s G + Λ.

    Attributes:
        gram_RKK: G; the draw leaves s G in it.
        rhs_RK: h; the draw leaves the gradient s h − s G x of the log-likelihood at the drawn rows x in it.
        scale_R: s.
        prior_RK: m.
        precision_K: the diagonal of Λ.
    """

    gram_RKK: Tensor
    rhs_RK: Tensor
    scale_R: Tensor
    prior_RK: Tensor
    precision_K: Tensor


class EffectState(NamedTuple):
    """What the implicit effects of the rows are drawn from. Each adds share · y to the columns rated with its row.

    Attributes:
        share_C: the part of an effect that each column gets.
        gram_CKK: minus the Hessian of the log-likelihood in each column's table row.
        gradient_CK: its gradient there; is overwritten.
        effect_RK: y; is overwritten.
        precision_K: of the effects' prior, whose mean is 0.
        table_CK: the columns' table; is overwritten.
        shift_CK: the sum of effects in it; is overwritten.
    """

    share_C: Tensor
    gram_CKK: Tensor
    gradient_CK: Tensor
    effect_RK: Tensor
    precision_K: Tensor
    table_CK: Tensor
    shift_CK: Tensor

    def move(self, step_CK: Tensor) -> None:
        """Add the change of the effects' sums to the table, and update the gradient."""
        self.table_CK.add_(step_CK)
        self.shift_CK.add_(step_CK)
        self.gradient_CK.sub_((self.gram_CKK @ step_CK[..., None])[..., 0])


class Rows(Protocol):
    """The ratings of one side, grouped by row."""

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        """G and h of each row, (R, K, K) and (R, K), before they are scaled."""
        ...

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        """Draw the rows, (R, K), from standard normal noise."""
        ...

    def draw_effects(self, state: EffectState, normal: Normal) -> None:
        """Draw the effects of the rows."""
        ...

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        """The sums of each row's squared errors, weighted by the other side and plain, float64, (R, 2)."""
        ...

    def sums(self, table_CK: Tensor) -> Tensor:
        """For each row the sum of the columns that it was rated with, (R, K)."""
        ...
