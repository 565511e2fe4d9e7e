"""Implicit effects drawn one row after the other on the CPU, eight columns at a time.

With all else fixed, a row's y has precision Σ share² G + Λ, and the gradient of the likelihood at its old value is
Σ share g, which depends on the rows drawn before; the Cholesky factors do not, and are made in parallel beforehand.
Shapes: R rows whose effects are drawn, C columns, K table width, B columns of a block. Names without a suffix are flat
arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.fit.kernels.gibbs import EffectState
from training.fit.kernels.grouping import Grouped
from training.fit.kernels.jit import Float32s, Float64s, kernel
from training.fit.kernels.simd import LANES, add_scaled, element, load, store, zero
from training.fit.kernels.tiles import flat


class Block(NamedTuple):
    """Eight columns of all matrices and gradients, times the shares: so few that a second-level cache holds them."""

    gram: Float32s
    gradient: Float32s
    precision_B: Float32s


def draw_effects(ratings: Grouped, run: Callable[..., Any], state: EffectState, noise_RK: Tensor) -> None:
    """Draw the effects as `gibbs.Rows` says, block of columns after block and in it row after row."""
    share_C1, effect_RK = state.share_C[:, None], state.effect_RK
    width = effect_RK.shape[1]
    grams, gradients = flat(state.gram_CKK), flat(state.gradient_CK)
    for first in range(0, width, LANES):
        columns = slice(first, first + LANES)
        gram_CBB = share_C1.square()[..., None] * state.gram_CKK[:, columns, columns]
        gradient_CB = share_C1 * state.gradient_CK[:, columns]
        block = Block(flat(gram_CBB), flat(gradient_CB), flat(state.precision_K[columns]))
        lower_RBB, sums_CB = np.empty((len(effect_RK), LANES, LANES)), torch.zeros(gradient_CB.shape)
        run(_factorise_all, ratings, block, lower_RBB)
        own_RB = (noise_RK[:, columns].numpy(), effect_RK[:, columns].numpy())
        _draw_all(ratings, block, lower_RBB, *own_RB, flat(sums_CB))
        step_CB = share_C1 * sums_CB
        state.table_CK[:, columns] += step_CB
        state.shift_CK[:, columns] += step_CB
        _update_gradients(grams, step_CB.numpy(), gradients, first, width)


@kernel
def _factorise_all(ratings: Grouped, block: Block, lower_RBB: Float64s, first: int, last: int) -> None:
    """The Cholesky factors of Σ G + Λ over each row's ratings."""
    total = np.empty(LANES * LANES, np.float32)
    for r in range(first, last):
        _sum_matrices(block.gram, ratings, ratings.starts_R[r], ratings.starts_R[r + 1], total)
        matrix = lower_RBB[r]
        for a in range(LANES):
            for b in range(LANES):
                matrix[a, b] = total[a * LANES + b]
            matrix[a, a] += block.precision_B[a]
        _factorise(matrix, block.precision_B)


@kernel
def _sum_matrices(gram: Float32s, ratings: Grouped, start: int, stop: int, total: Float32s) -> None:
    one = np.float32(1)
    t0, t1, t2, t3, t4, t5, t6, t7 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
    for n in range(start, stop):
        o = ratings.columns_N[n] * LANES * LANES
        t0 = add_scaled(t0, one, load(gram, o))
        t1 = add_scaled(t1, one, load(gram, o + LANES))
        t2 = add_scaled(t2, one, load(gram, o + 2 * LANES))
        t3 = add_scaled(t3, one, load(gram, o + 3 * LANES))
        t4 = add_scaled(t4, one, load(gram, o + 4 * LANES))
        t5 = add_scaled(t5, one, load(gram, o + 5 * LANES))
        t6 = add_scaled(t6, one, load(gram, o + 6 * LANES))
        t7 = add_scaled(t7, one, load(gram, o + 7 * LANES))
    store(total, 0, t0)
    store(total, LANES, t1)
    store(total, 2 * LANES, t2)
    store(total, 3 * LANES, t3)
    store(total, 4 * LANES, t4)
    store(total, 5 * LANES, t5)
    store(total, 6 * LANES, t6)
    store(total, 7 * LANES, t7)


@kernel
def _factorise(matrix_BB: Float64s, floor_B: Float32s) -> None:
    """Cholesky in place, lower triangle, of A + Λ with A positive semidefinite: no pivot can be below Λ's."""
    width = len(matrix_BB)
    for j in range(width):
        pivot = matrix_BB[j, j]
        for t in range(j):
            pivot -= matrix_BB[j, t] * matrix_BB[j, t]
        matrix_BB[j, j] = np.sqrt(max(pivot, floor_B[j]))
        for i in range(j + 1, width):
            total = matrix_BB[i, j]
            for t in range(j):
                total -= matrix_BB[i, t] * matrix_BB[j, t]
            matrix_BB[i, j] = total / matrix_BB[j, j]


@kernel
def _draw_all(
    ratings: Grouped, block: Block, lower_RBB: Float64s, noise_RB: Float32s, effect_RB: Float32s, sums: Float32s
) -> None:
    """Draw eight columns of each row's effect in sequence; `sums` gets the changes of each column's effects."""
    slope, change, side = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES)
    one = np.float32(1)
    for r in range(len(effect_RB)):
        total = zero()
        for n in range(ratings.starts_R[r], ratings.starts_R[r + 1]):
            total = add_scaled(total, one, load(block.gradient, ratings.columns_N[n] * LANES))
        store(slope, 0, total)
        _times(lower_RBB[r], effect_RB[r], side)
        for a in range(LANES):
            side[a] += slope[a] - block.precision_B[a] * effect_RB[r, a]
        _solve(lower_RBB[r], side, noise_RB[r])
        for a in range(LANES):
            change[a] = side[a] - effect_RB[r, a]
            effect_RB[r, a] = side[a]
        for n in range(ratings.starts_R[r], ratings.starts_R[r + 1]):
            _take_step(ratings.columns_N[n], change, block.gram, block.gradient, sums)


@kernel
def _times(lower_BB: Float64s, row_B: Float32s, product_B: Float64s) -> None:
    """L Lᵀ x."""
    width = len(row_B)
    half_B = np.zeros(width)
    for a in range(width):
        for b in range(a + 1):
            half_B[b] += lower_BB[a, b] * row_B[a]
    for a in range(width):
        product_B[a] = 0
        for b in range(a + 1):
            product_B[a] += lower_BB[a, b] * half_B[b]


@kernel
def _solve(lower_BB: Float64s, vector_B: Float64s, noise_B: Float32s) -> None:
    """(LLᵀ)⁻¹ v + L⁻ᵀ z in place of v: a draw from N((LLᵀ)⁻¹ v, (LLᵀ)⁻¹)."""
    width = len(vector_B)
    for i in range(width):
        total = vector_B[i]
        for t in range(i):
            total -= lower_BB[i, t] * vector_B[t]
        vector_B[i] = total / lower_BB[i, i]
    for i in range(width):
        vector_B[i] += noise_B[i]
    for i in range(width - 1, -1, -1):
        vector_B[i] /= lower_BB[i, i]
        for t in range(i):
            vector_B[t] -= lower_BB[i, t] * vector_B[i]


@kernel
def _take_step(c: int, change: Float32s, gram: Float32s, gradient: Float32s, sums: Float32s) -> None:
    """Add the change of an effect to a column's sum, and update its gradient −= G · change."""
    at, o = c * LANES, c * LANES * LANES
    even, odd = load(gradient, at), zero()
    for a in range(0, LANES, 2):
        even = add_scaled(even, -element(change, a), load(gram, o + a * LANES))
        odd = add_scaled(odd, -element(change, a + 1), load(gram, o + a * LANES + LANES))
    one = np.float32(1)
    store(gradient, at, add_scaled(even, one, odd))
    store(sums, at, add_scaled(load(sums, at), one, load(change, 0)))


@kernel
def _update_gradients(gram: Float32s, step_CB: Float32s, gradient: Float32s, first: int, width: int) -> None:
    """Update all gradients −= G · step, where only eight columns from `first` on have moved."""
    for c in range(len(step_CB)):
        for a in range(LANES):
            moved = -step_CB[c, a]
            o = (c * width + first + a) * width
            for j in range(0, width, LANES):
                at = c * width + j
                store(gradient, at, add_scaled(load(gradient, at), moved, load(gram, o + j)))
