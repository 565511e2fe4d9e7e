"""Maps ids to table rows and back. An id that it does not have maps to the row for unknown ids, after the last row.

The hash table and the ids are arrays that may be mapped from a checkpoint (`docs/checkpoint-format.md`), so that all
processes on a machine share them. Shapes: N ids, S slots, B ids to look up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import repeat

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MULTIPLIER = 0x9E3779B97F4A7C15  # 2⁶⁴ ÷ the golden ratio, odd
ALL_BITS = (1 << 64) - 1
EMPTY = -1
SLOTS_PER_ID = 4  # at least, for 16 to 32 bytes an id; with 2, twice as many ids miss in the first round of probes
CHUNK = 8192  # 100,000 ids: 6.6 ms; with 1,024 8.9 ms, with 65,536 7.2 ms
PROBES = 128  # slots after which an id is one of the few, or many, that were chosen to be far from their home
FEW = 8  # below this, a round of vector operations takes longer than one id after the other
SLOTS_AT_ONCE = 1 << 20
SMALL = 16_384  # ids: a dictionary of so few takes 2 MB a process and answers 1,000 in 40 µs, the arrays in 90
WORD_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # the first n bytes of a word

Integers = npt.NDArray[np.int32] | npt.NDArray[np.int64]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


class IdsError(ValueError):
    """Ids that cannot be a vocabulary, with any hash table."""

    def __init__(self) -> None:
        super().__init__("ids must be distinct and not null")


class Vocabulary:
    """N distinct string ids; the position of an id is its row in the model's tables.

    Args:
        ids: the ids in row order, no nulls, no repetitions.
        slots: the hash table of these ids, int32, (S,); built where it is None.
        proven: the same ids and slots were checked before; do not check again.

    Raises IdsError for ids with nulls or repetitions, another ValueError for a hash table that does not find every id.
    """

    def __init__(
        self, ids: pa.StringArray, slots: npt.NDArray[np.int32] | None = None, *, proven: bool = False
    ) -> None:
        if ids.null_count:
            raise IdsError
        self.ids, self._count = ids, len(ids)
        self._offsets, data = _buffers(ids)
        self._words = _Words(data)
        self.slots = self._build() if slots is None else slots
        if not proven:
            self._refuse_malformed()
        self._last_slot = len(self.slots) - 1
        self._slot_memory, self._offset_memory = self.slots.data, self._offsets.data
        self._data_memory = data.data
        if not proven:
            self._prove()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, id_: str) -> bool:
        return self.row(id_) < len(self)

    def __getitem__(self, row: int) -> str:
        return str(self.ids[row])

    def row(self, id_: str) -> int:
        """Row of an id; N if the vocabulary does not have it."""
        if self._count <= SMALL:
            return self._index.get(id_, self._count)
        try:
            return self._row(id_.encode())
        except UnicodeEncodeError:  # a lone surrogate, which JSON can contain; no id has one
            return self._count

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> Int64s:
        """Row of each id, N for ids that the vocabulary does not have, shape (B,).

        An Arrow array is of strings, large strings or a dictionary of either. Bytes that are not UTF-8 are an id
        that is not found. Raises ValueError for nulls in it or in its dictionary and for ids that are not inside its
        data, and TypeError for arrays of other types.
        """
        if isinstance(ids, pa.ChunkedArray):
            return np.concatenate([np.empty(0, np.int64), *map(self._rows_of_arrow, ids.chunks)])
        if isinstance(ids, pa.Array):
            return self._rows_of_arrow(ids)
        if self._count <= SMALL:
            return np.fromiter(map(self._index.get, ids, repeat(self._count)), np.int64, len(ids))
        return self._rows_of_strings(ids)

    def hashes(self) -> UInt64s:
        """The hash of each row's id, `hash_of`, shape (N,)."""
        return hashes_of(self.ids)

    def lookup(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Id of each row; rows are within 0 … N−1."""
        ids: list[str] = self.ids.take(pa.array(rows)).to_pylist()
        return ids

    @cached_property
    def _index(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids.to_pylist())}

    def _rows_of_strings(self, ids: Sequence[str]) -> Int64s:
        if len(ids) == 0:
            return np.empty(0, np.int64)
        joined = "\0".join(ids).encode("utf-8", "surrogatepass")  # a lone surrogate becomes bytes that no id has
        text = np.frombuffer(joined + bytes(9), np.uint8)  # padding, so that the last word can be read like any other
        ends_B = np.flatnonzero(text[: len(joined) + 1] == 0)
        if len(ends_B) != len(ids):  # some id has a NUL of its own
            return np.fromiter(map(self.row, ids), np.int64, len(ids))
        starts_B = np.zeros_like(ends_B)
        np.add(ends_B[:-1], 1, out=starts_B[1:])
        return self._rows(starts_B, ends_B, text)

    def _rows_of_arrow(self, ids: pa.Array) -> Int64s:
        if ids.null_count:
            raise ValueError("ids must not be null")
        if isinstance(ids, pa.DictionaryArray):
            rows_D = self._rows_of_arrow(ids.dictionary)
            rows_B: Int64s = rows_D[ids.indices.to_numpy(zero_copy_only=False)]
            return rows_B
        if not isinstance(ids, pa.StringArray | pa.LargeStringArray):
            raise TypeError(f"ids are {ids.type}, not strings")
        offsets, data = _buffers(ids)
        if len(ids) == 0:
            return np.empty(0, np.int64)
        if offsets.min() < 0 or offsets.max() > len(data) or (offsets[:-1] > offsets[1:]).any():
            raise ValueError("the offsets of the ids are outside their data")
        return self._rows(offsets[:-1], offsets[1:], data)

    def _rows(self, starts_B: Integers, ends_B: Integers, data: npt.NDArray[np.uint8]) -> Int64s:
        """Follow all probes together, one slot a round, until few are left."""
        words, rows_B = _Words(data), np.empty(len(starts_B), np.int64)
        left: list[tuple[Int64s, Int64s]] = []  # positions in the batch, slots
        for chunk in _chunks(len(starts_B)):
            ids = _Ids(words, starts_B[chunk], ends_B[chunk])
            slots_C = self._homes(ids)
            rows_B[chunk], left_L = self._probe(ids, slots_C)
            left.append((left_L + chunk.start, slots_C[left_L]))
        rounds = 1
        while len(left_L := np.concatenate([positions for positions, _ in left])) > FEW and rounds < PROBES:
            rounds += 1
            slots_L = (np.concatenate([slots for _, slots in left]) + 1) & self._last_slot
            left = []
            for chunk in _chunks(len(left_L)):
                at_C, slots_C = left_L[chunk], slots_L[chunk]
                rows_B[at_C], left_C = self._probe(_Ids(words, starts_B[at_C], ends_B[at_C]), slots_C)
                left.append((at_C[left_C], slots_C[left_C]))
        for position in left_L.tolist():
            rows_B[position] = self._row(data[starts_B[position] : ends_B[position]].tobytes())
        return rows_B

    def _probe(self, ids: _Ids, slots_C: Int64s) -> tuple[Int64s, Int64s]:
        """Look into one slot for each id. Returns the rows, N if the slot has another id, and who must go on."""
        candidates_C = self.slots.take(slots_C).astype(np.int64)
        found_C = self._equal(candidates_C, ids)
        return np.where(found_C, candidates_C, len(self)), np.flatnonzero(found_C < (candidates_C >= 0))

    def _row(self, id_: bytes) -> int:
        length = len(id_)
        slots, offsets, last_slot = self._slot_memory, self._offset_memory, self._last_slot
        slot = hash_of(id_) & last_slot
        for _ in range(PROBES):
            row = slots[slot]
            if row < 0:
                return self._count
            begin, end = offsets[row], offsets[row + 1]
            if end - begin == length and self._data_memory[begin:end] == id_:
                return row
            slot = (slot + 1) & last_slot
        return self._far.get(id_, self._count)

    @cached_property
    def _far(self) -> dict[bytes, int]:
        """The rows of ids that are further than `PROBES` from their home: none, unless they were chosen to be."""
        far: dict[bytes, int] = {}
        for start in range(0, len(self.slots), SLOTS_AT_ONCE):
            places_P = start + np.flatnonzero(self.slots[start : start + SLOTS_AT_ONCE] >= 0)
            for chunk in _chunks(len(places_P)):
                rows_C = self.slots[places_P[chunk]]
                homes_C = self._homes(_Ids(self._words, self._offsets[rows_C], self._offsets[rows_C + 1]))
                rows = rows_C[(places_P[chunk] - homes_C) & self._last_slot >= PROBES].astype(np.int64)
                far |= zip(map(str.encode, self.lookup(rows)), rows.tolist(), strict=True)
        return far

    def _homes(self, ids: _Ids) -> Int64s:
        return (ids.hashes() & np.uint64(len(self.slots) - 1)).view(np.int64)

    def _equal(self, rows_B: Int64s, ids: _Ids) -> npt.NDArray[np.bool_]:
        """Whether the id of each row equals the id at its place, byte for byte. A row of −1 has no id."""
        begins_B = self._offsets.take(rows_B, mode="clip")
        lengths_B = self._offsets.take(rows_B + 1, mode="clip") - begins_B
        equal_B: npt.NDArray[np.bool_] = (lengths_B == ids.lengths) & (rows_B >= 0)
        equal_B &= ((self._words.at(begins_B) ^ ids.first) & ids.first_mask) == 0
        for start in range(8, ids.longest, 8):
            further = np.flatnonzero(equal_B & (ids.lengths > start))
            equal_B[further] = ids.words(start, further) == _masked(
                self._words.at(begins_B[further] + start), lengths_B[further] - start
            )
        return equal_B

    def _build(self) -> npt.NDArray[np.int32]:
        """Place the ids in the order of their homes: each takes the first slot that is not before its home."""
        count = self._count
        self.slots = np.full(1 << max(SLOTS_PER_ID * count - 1, 0).bit_length(), EMPTY, np.int32)
        starts, ends = self._offsets[:-1], self._offsets[1:]
        homes = [self._homes(_Ids(self._words, starts[chunk], ends[chunk])) for chunk in _chunks(count)]
        keys = np.concatenate([np.empty(0, np.int64), *homes]) << 32
        keys |= np.arange(count)
        keys.sort()
        rows, order = (keys & 0xFFFFFFFF).astype(np.int32), np.arange(count)
        places = np.maximum.accumulate((keys >> 32) - order) + order
        inside = int(np.searchsorted(places, len(self.slots)))
        self.slots[places[:inside]] = rows[:inside]
        free = np.flatnonzero(self.slots == EMPTY)  # ids past the end go to the front
        self.slots[free[: count - inside]] = rows[inside:]
        return self.slots

    def _prove(self) -> None:
        """Look up every id. An id that is found in another row occurs twice: lookups compare the bytes of ids."""
        rows = self.rows(self.ids)
        wrong = np.flatnonzero(rows != np.arange(self._count))
        if (rows[wrong] < self._count).any():
            raise IdsError
        if len(wrong):
            raise ValueError(f"the id of row {wrong[0]} is not found")

    def _refuse_malformed(self) -> None:
        """Raise a ValueError for slots in which a probe could run for ever or outside."""
        slots, count = self.slots, self._count
        if slots.dtype != np.int32 or slots.ndim != 1:
            raise ValueError("slots are not a vector of int32")
        if len(slots) < max(1, 2 * count) or len(slots) & (len(slots) - 1):
            raise ValueError(f"{len(slots)} slots for {count} ids, expected a power of two and at least twice as many")
        if slots.min() < EMPTY or slots.max() >= count:
            raise ValueError("slots name a row that does not exist")
        if np.count_nonzero(slots >= 0) != count:
            raise ValueError(f"{np.count_nonzero(slots >= 0)} slots are taken, expected {count}")


class _Words:
    """The 8 bytes from any byte of a buffer, as one little-endian number; zeros past the end.

    Nothing outside the buffer is read. It is copied only if it is shorter than a word.
    """

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self.data = data
        if len(data) < 8:
            data = np.append(data, np.zeros(8 - len(data), np.uint8))
        self._last = len(data) - 8
        self._overlapping = np.ndarray((self._last + 1,), "<u8", buffer=data, strides=(1,))

    def at(self, starts_B: Integers) -> UInt64s:
        """The word from each start; a start is not after the end of the buffer."""
        try:
            return self._overlapping[starts_B]
        except IndexError:  # the end of the buffer is rare: checking for it first takes longer
            pass
        inside_B = np.minimum(starts_B, self._last)
        words_B: UInt64s = self._overlapping[inside_B]
        words_B >>= (8 * (starts_B - inside_B)).astype(np.uint64)
        return words_B


class _Ids:
    """B ids as ranges of bytes. `first` has the first word of each, zero past its end."""

    def __init__(self, words: _Words, starts_B: Integers, ends_B: Integers) -> None:
        self._words, self._starts = words, starts_B
        self.lengths = (ends_B - starts_B).astype(np.int64, copy=False)
        self.longest = int(self.lengths.max(initial=0))
        self.first_mask = WORD_MASKS.take(self.lengths, mode="clip")
        self.first = words.at(starts_B) & self.first_mask

    def words(self, start: int, positions_L: Int64s) -> UInt64s:
        """The word at byte `start` of those at some positions, which are longer than that; zero past their end."""
        return _masked(self._words.at(self._starts[positions_L] + start), self.lengths[positions_L] - start)

    def hashes(self) -> UInt64s:
        """The hash of each, as `docs/checkpoint-format.md` defines it; `hash_of` has it for one id."""
        hashes_B = _mix(self.lengths.view(np.uint64), self.first)
        for start in range(8, self.longest, 8):
            further = np.flatnonzero(self.lengths > start)
            hashes_B[further] = _mix(hashes_B[further], self.words(start, further))
        return hashes_B


def hash_of(id_: bytes) -> int:
    """The hash of an id's UTF-8, as `docs/checkpoint-format.md` defines it."""
    length = len(id_)
    hash_ = ((length ^ int.from_bytes(id_[:8], "little")) * MULTIPLIER) & ALL_BITS
    hash_ ^= hash_ >> 32
    for start in range(8, length, 8):
        hash_ = ((hash_ ^ int.from_bytes(id_[start : start + 8], "little")) * MULTIPLIER) & ALL_BITS
        hash_ ^= hash_ >> 32
    return hash_


def hashes_of(ids: pa.StringArray | pa.LargeStringArray) -> UInt64s:
    """`hash_of` of each of some ids, none of which is null, shape (B,)."""
    offsets, data = _buffers(ids)
    words, starts, ends = _Words(data), offsets[:-1], offsets[1:]
    parts = [_Ids(words, starts[chunk], ends[chunk]).hashes() for chunk in _chunks(len(ids))]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def _mix(hashes_B: UInt64s, words_B: UInt64s) -> UInt64s:
    mixed_B = hashes_B ^ words_B
    mixed_B *= np.uint64(MULTIPLIER)
    mixed_B ^= mixed_B >> np.uint64(32)
    return mixed_B


def _masked(words_B: UInt64s, lengths_B: Integers) -> UInt64s:
    """The first bytes of each word, zero after `lengths_B` of them."""
    return words_B & WORD_MASKS.take(lengths_B, mode="clip")


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _buffers(ids: pa.Array) -> tuple[Integers, npt.NDArray[np.uint8]]:
    """Offsets (B+1,) and bytes of an array of strings, neither copied."""
    _, offsets, data = ids.buffers()
    if len(ids) == 0 or offsets is None:
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    large = isinstance(ids, pa.LargeStringArray)
    offsets_N: Integers = np.frombuffer(offsets, np.int64) if large else np.frombuffer(offsets, np.int32)
    text = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return offsets_N[ids.offset : ids.offset + len(ids) + 1], text
