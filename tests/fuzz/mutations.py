"""Damaged and hostile variants of a valid file, the same in every run."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np

EXTREMES = (0, 1, *((1 << bits) - extra for bits in (7, 8, 15, 16, 31, 32, 40, 63, 64) for extra in (0, 1)))


def mutations(valid: bytes, count: int, seed: int) -> Iterator[bytes]:
    """So many variants: bits turned, bytes overwritten, numbers made extreme, parts cut, removed, repeated; random."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(valid)
        for _ in range(1 + int(rng.integers(3))):
            _KINDS[(number + int(rng.integers(2))) % len(_KINDS)](data, rng)
        yield bytes(data)


def _turn_bits(data: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(len(data), size=1 + int(rng.integers(4))).tolist() if data else ():
        data[at] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: np.random.Generator) -> None:
    at, size = int(rng.integers(len(data) + 1)), int(rng.integers(1, 16))
    data[at : at + size] = rng.bytes(size)


def _make_extreme(data: bytearray, rng: np.random.Generator) -> None:
    """At a place where a length or an offset may stand."""
    width, value = [("<H", 2), ("<I", 4), ("<Q", 8)][int(rng.integers(3))], EXTREMES[int(rng.integers(len(EXTREMES)))]
    at = int(rng.integers(len(data) + 1)) // width[1] * width[1]
    data[at : at + width[1]] = struct.pack(width[0], value & ((1 << 8 * width[1]) - 1))


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    begin, end = sorted(rng.integers(len(data) + 1, size=2).tolist())
    data[end:end] = data[begin:end]


def _remove(data: bytearray, rng: np.random.Generator) -> None:
    begin = int(rng.integers(len(data) + 1))
    del data[begin : begin + int(rng.integers(1, 64))]


def _replace_all(data: bytearray, rng: np.random.Generator) -> None:
    if rng.integers(8) == 0:
        data[:] = rng.bytes(int(rng.integers(200)))


_KINDS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _turn_bits,
    _make_extreme,
    _overwrite,
    _cut,
    _make_extreme,
    _repeat,
    _remove,
    _turn_bits,
    _replace_all,
)
