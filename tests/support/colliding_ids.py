"""Ids that all have one hash (`docs/checkpoint-format.md`), made as somebody would who wants to slow look-ups down."""

from __future__ import annotations

import numpy as np

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
LENGTH = 16
PRINTABLE = range(0x21, 0x7F)


def colliding_ids(count: int, seed: int = 0) -> list[str]:
    """Distinct ids of 16 printable characters. Whatever the first word is, a second one gives the hash wanted.

    The second word is the first one's hash, combined with a constant; of a few thousand one is printable.
    """
    rng, found = np.random.default_rng(seed), {b"a chosen id here"}
    wanted = _mixed(np.frombuffer(b"a chosen", "<u8")) ^ np.frombuffer(b" id here", "<u8")
    while len(found) < count:
        first = rng.integers(PRINTABLE.start, PRINTABLE.stop, (1 << 20, 8), dtype=np.uint8)
        second = (_mixed(first.view("<u8")[:, 0]) ^ wanted).view(np.uint8).reshape(-1, 8)
        printable = ((second >= PRINTABLE.start) & (second < PRINTABLE.stop)).all(1)
        found |= {row.tobytes() for row in np.concatenate([first, second], 1)[printable]}
    return [id_.decode() for id_ in sorted(found)[:count]]


def _mixed(words: np.ndarray) -> np.ndarray:
    mixed = (np.uint64(LENGTH) ^ words) * MULTIPLIER
    return mixed ^ (mixed >> np.uint64(32))
