"""Makes ratings from a planted low-rank model, for tests of speed and scale without a data set.

Shapes: U users, I items, N ratings, F planted factors.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

FACTORS = 16
BIAS_DEVIATION = 0.45
SIGNAL = 0.6
NOISE = 0.7

Ratings = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def planted(users: int, items: int, ratings: int, rng: np.random.Generator) -> Ratings:
    """Draw distinct (user, item) pairs with long-tailed popularity and rate them by a factor model plus noise.

    User weights are (rank + 20)^-0.9 and item weights (rank + 50)^-0.7, both shuffled. A rating is
    3.5 + b_u + b_i + 0.6 p·q + N(0, 0.7²) with biases N(0, 0.45²) and p·q of unit variance, rounded to halves and
    clipped to 1–5. Pairs stand in the order in which they were drawn; those of popular users and items come somewhat
    earlier, as fewer of them are left later on, so a split must shuffle. Some users and items may have no ratings.
    Beside the result (users_N, items_N, ratings_N) this holds U·I bits: 100 million ratings of 480,000 × 17,770 peak
    at 2.1 GB.
    """
    if ratings > users * items // 2:
        raise ValueError(f"{ratings} distinct pairs of {users} × {items}: at most half of all pairs can be drawn")
    user_weights_U = rng.permutation((np.arange(users) + 20.0) ** -0.9)
    item_weights_I = rng.permutation((np.arange(items) + 50.0) ** -0.7)
    scale = FACTORS**-0.25
    p_UF = scale * rng.standard_normal((users, FACTORS), dtype=np.float32)
    q_IF = scale * rng.standard_normal((items, FACTORS), dtype=np.float32)
    user_bias_U = BIAS_DEVIATION * rng.standard_normal(users, dtype=np.float32)
    item_bias_I = BIAS_DEVIATION * rng.standard_normal(items, dtype=np.float32)
    users_N, items_N = _distinct_pairs(_alias_table(user_weights_U), _alias_table(item_weights_I), ratings, rng)
    return users_N, items_N, _rate(users_N, items_N, p_UF, q_IF, user_bias_U, item_bias_I, rng)


@njit(cache=True)
def _alias_table(weights):  # type: ignore[no-untyped-def]  # numba infers the types
    """Tables for drawing an index with the given weights in constant time (Vose 1991)."""
    n = len(weights)
    keep = weights * (n / weights.sum())
    alias = np.arange(n).astype(np.int32)
    small = [np.int32(i) for i in range(n) if keep[i] < 1]
    large = [np.int32(i) for i in range(n) if keep[i] >= 1]
    while small and large:
        light, heavy = small.pop(), large[-1]
        alias[light] = heavy
        keep[heavy] -= 1 - keep[light]
        if keep[heavy] < 1:
            small.append(large.pop())
    for i in small:
        keep[i] = 1  # what rounding left over
    return keep.astype(np.float32), alias


@njit(cache=True)
def _draw(table, rng):  # type: ignore[no-untyped-def]
    keep, alias = table
    position = rng.random() * len(keep)
    i = int(position)
    return i if position - i < keep[i] else alias[i]


@njit(cache=True)
def _distinct_pairs(user_table, item_table, n, rng):  # type: ignore[no-untyped-def]
    """Draw pairs until n different ones are found; a bitmap of all cells remembers which were."""
    items = len(item_table[0])
    drawn = np.zeros(len(user_table[0]) * items // 8 + 1, np.uint8)
    users_N, items_N = np.empty(n, np.int32), np.empty(n, np.int32)
    found = 0
    while found < n:
        user, item = _draw(user_table, rng), _draw(item_table, rng)
        cell = user * items + item
        byte, bit = cell >> 3, np.uint8(1 << (cell & 7))
        if not drawn[byte] & bit:
            drawn[byte] |= bit
            users_N[found], items_N[found] = user, item
            found += 1
    return users_N, items_N


@njit(cache=True, fastmath=True)
def _rate(users_N, items_N, p_UF, q_IF, user_bias_U, item_bias_I, rng):  # type: ignore[no-untyped-def]
    ratings_N = np.empty(len(users_N), np.float32)
    for n in range(len(users_N)):
        user, item = users_N[n], items_N[n]
        dot = np.float32(0)
        for f in range(FACTORS):
            dot += p_UF[user, f] * q_IF[item, f]
        rating = 3.5 + user_bias_U[user] + item_bias_I[item] + SIGNAL * dot + NOISE * rng.standard_normal()
        ratings_N[n] = min(max(math.floor(2 * rating + 0.5) / 2, 1.0), 5.0)
    return ratings_N
