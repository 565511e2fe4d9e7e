"""Σ a aᵀ and Σ t a over ratings of one row: what least squares and the Gibbs sampler solve a row from.

A rating with value z of a column [q, b] has the features a = [q, 1] and the target t = z − b. Ratings pass through a
block of copied features that stays in the core's first cache, and sums are kept in tiles of 8 × 8 in registers.
Shapes: C columns of the rating matrix, K width of a table, a multiple of 8. Tables and Gram matrices are flat arrays,
so that offsets are plain integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from training.fit.kernels.grouping import Float32s, Grouped
from training.fit.kernels.jit import kernel
from training.fit.kernels.simd import LANES, add_scaled, element, load, store, zero
from training.fit.kernels.tiles import BLOCK, Width, add_products, add_weighted, flat, tiles


class Features(NamedTuple):
    """The other side's table, as kernels take it. Without biases a = q and t = z."""

    table: Float32s
    width: Width
    biased: bool

    @classmethod
    def of(cls, table_CK: Tensor, *, biased: bool = True) -> Features:
        return cls(flat(table_CK), tiles(table_CK.shape[1]), biased)


@kernel
def add_ratings(
    features: Features,
    root_C: Float32s | None,
    ratings: Grouped,
    start: int,
    stop: int,
    rows: Float32s,
    targets: Float32s,
    gram: Float32s,
    weighted: Float32s,
) -> np.float32:
    """Add Σ w a aᵀ (its upper tiles) to `gram` and Σ w t a to `weighted`; return Σ w t².

    `root_C` is √w of each column, None where all weights are 1; `rows` and `targets` are a block to work in, zeros.
    """
    width = features.width
    K = LANES * len(width)
    squares = np.float32(0)
    for position in range(start, stop, BLOCK):
        count = min(BLOCK, stop - position)
        squares += _copy_features(features, root_C, ratings, position, count, rows, targets)
        for i in range(0, K, LANES):
            add_weighted(weighted, rows, targets, width, i)
            for j in range(i, K, LANES):
                add_products(gram, rows, rows, count, width, i, j)
    return squares


@kernel
def _copy_features(
    features: Features,
    root_C: Float32s | None,
    ratings: Grouped,
    position: int,
    count: int,
    rows: Float32s,
    targets: Float32s,
) -> np.float32:
    """Write √w a of `count` ratings into `rows` and √w t into `targets`, its rest 0; return Σ w t²."""
    table = features.table
    K = LANES * len(features.width)
    squares = np.float32(0)
    for n in range(count):
        column = ratings.columns_N[position + n]
        for j in range(0, K, LANES):
            vector = load(table, column * K + j)
            if root_C is not None:
                vector = add_scaled(zero(), root_C[column], vector)
            store(rows, n * K + j, vector)
        target, one = ratings.values_N[position + n], np.float32(1)
        if features.biased:
            target -= element(table, column * K + K - 1)
        if root_C is not None:
            one = root_C[column]
            target *= one
        if features.biased:
            rows[n * K + K - 1] = one
        targets[n] = target
        squares += target * target
    for n in range(count, BLOCK):
        targets[n] = 0
    return squares
