"""Linear algebra on small dense matrices in flat float32 arrays, in tiles of 8 × 8 whose sums stay in registers.

Shapes: K width of the matrices, a multiple of 8. A block holds `BLOCK` rows of K numbers.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from training.fit.kernels.jit import Float32s, kernel
from training.fit.kernels.simd import LANES, add_scaled, element, load, store, zero

BLOCK = 64  # ratings copied at a time: 8 kB at K = 32, a quarter of a first-level cache

Width = tuple[int, ...]  # K / 8 entries: numba types a tuple by its length, so K is known when a kernel is compiled


def padded_width(factors: int, *, biased: bool = True) -> int:
    """K: the factors and the bias, if there is one, up to the next multiple of 8."""
    return -(-(factors + biased) // LANES) * LANES


def tiles(width: int) -> Width:
    return (0,) * (width // LANES)


def flat(tensor: Tensor) -> Float32s:
    """A contiguous tensor on the CPU as a flat array."""
    return tensor.view(-1).numpy()


@kernel
def add_weighted(weighted: Float32s, block: Float32s, targets: Float32s, width: Width, j: int) -> None:
    """weighted[j : j + 8] += Σ_n targets[n] · block[n, j : j + 8], in four chains that do not wait for one another."""
    K = LANES * len(width)
    s0, s1, s2, s3 = load(weighted, j), zero(), zero(), zero()
    for n in range(0, BLOCK, 4):
        s0 = add_scaled(s0, targets[n], load(block, n * K + j))
        s1 = add_scaled(s1, targets[n + 1], load(block, n * K + K + j))
        s2 = add_scaled(s2, targets[n + 2], load(block, n * K + 2 * K + j))
        s3 = add_scaled(s3, targets[n + 3], load(block, n * K + 3 * K + j))
    one = np.float32(1)
    store(weighted, j, add_scaled(add_scaled(s0, one, s1), one, add_scaled(s2, one, s3)))


@kernel
def add_products(total: Float32s, left: Float32s, right: Float32s, count: int, width: Width, i: int, j: int) -> None:
    """total[i : i + 8, j : j + 8] += Σ_n left[n, i : i + 8] ⊗ right[n, j : j + 8], summed in eight registers."""
    K = LANES * len(width)
    o = i * K + j
    t0, t1, t2, t3 = load(total, o), load(total, o + K), load(total, o + 2 * K), load(total, o + 3 * K)
    t4, t5, t6, t7 = load(total, o + 4 * K), load(total, o + 5 * K), load(total, o + 6 * K), load(total, o + 7 * K)
    for n in range(count):
        row = load(right, n * K + j)
        a = n * K + i
        t0 = add_scaled(t0, element(left, a), row)
        t1 = add_scaled(t1, element(left, a + 1), row)
        t2 = add_scaled(t2, element(left, a + 2), row)
        t3 = add_scaled(t3, element(left, a + 3), row)
        t4 = add_scaled(t4, element(left, a + 4), row)
        t5 = add_scaled(t5, element(left, a + 5), row)
        t6 = add_scaled(t6, element(left, a + 6), row)
        t7 = add_scaled(t7, element(left, a + 7), row)
    store(total, o, t0)
    store(total, o + K, t1)
    store(total, o + 2 * K, t2)
    store(total, o + 3 * K, t3)
    store(total, o + 4 * K, t4)
    store(total, o + 5 * K, t5)
    store(total, o + 6 * K, t6)
    store(total, o + 7 * K, t7)


@kernel
def factorize(gram: Float32s, floor: np.float32, width: Width) -> None:
    """Cholesky in place, upper: gram = Uᵀ U, with 1 / U[i, i] left on the diagonal. Eight rows at a time.

    `floor` is the least that a pivot can be, which rounding might otherwise take it below.
    """
    K = LANES * len(width)
    negated = np.empty(K * K, np.float32)
    for i in range(0, K, LANES):
        for j in range(i, K, LANES):
            add_products(gram, negated, gram, i, width, i, j)
        for row in range(i, i + LANES):
            for above in range(i, row):
                for j in range(i, K, LANES):
                    o = row * K + j
                    store(
                        gram, o, add_scaled(load(gram, o), element(negated, above * K + row), load(gram, above * K + j))
                    )
            inverse = np.float32(1) / np.sqrt(max(gram[row * K + row], floor))
            for j in range(i, K, LANES):
                o = row * K + j
                scaled = add_scaled(zero(), inverse, load(gram, o))
                store(gram, o, scaled)
                store(negated, o, add_scaled(zero(), np.float32(-1), scaled))
            gram[row * K + row] = inverse


@kernel
def forward(factor: Float32s, right: Float32s, width: Width, y: Float32s) -> None:
    """Solve Uᵀ y = right for the factor that `factorize` leaves."""
    K = LANES * len(width)
    rest = np.empty(K, np.float32)
    for first in range(0, K, LANES):
        total = load(right, first)
        for k in range(first):
            total = add_scaled(total, -y[k], load(factor, k * K + first))
        store(rest, first, total)
        for i in range(first, first + LANES):
            y[i] = rest[i] * factor[i * K + i]
            for k in range(i + 1, first + LANES):
                rest[k] -= y[i] * factor[i * K + k]


@kernel
def backward(factor: Float32s, y: Float32s, width: Width, x: Float32s) -> None:
    """Solve U x = y for the factor that `factorize` leaves."""
    K = LANES * len(width)
    rest = np.empty(K, np.float32)
    for first in range(K - LANES, -1, -LANES):
        for i in range(first, first + LANES):
            dot = np.float32(0)
            for k in range(first + LANES, K):
                dot += factor[i * K + k] * x[k]
            rest[i] = y[i] - dot
        for i in range(first + LANES - 1, first - 1, -1):
            x[i] = rest[i] * factor[i * K + i]
            for k in range(first, i):
                rest[k] -= x[i] * factor[k * K + i]
