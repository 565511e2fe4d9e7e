"""Scores by one matrix product: about what `models.scoring` gives, and how far from it they can be.

Shapes: I items, G factors, B users of a batch, R items of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.scoring import LOWER_BOUND_DEVIATIONS, BilinearForm, square_root

# How much of ‖x‖·‖y‖ the settings of torch may cost a product by rounding its operands, beside float32's own rounding.
PRODUCT_ERROR = {"highest": 0.0, "high": 2**-9, "medium": 2**-6}


def write_products(
    form: BilinearForm, users_B: Tensor, columns_GB: Tensor, rows: slice | Tensor, out_RB: Tensor
) -> None:
    """Write about what `exact` gives for some items, less `constant`, into `out_RB`, by one matrix product.

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
    """What `exact` adds for each user whatever the item, float64 (B,)."""
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
    after it by 2⁻²⁴ of the largest value that it can meet. Both sides round, hence twice that. The last term covers
    products that are too small for float32 or are set to zero for that.
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
