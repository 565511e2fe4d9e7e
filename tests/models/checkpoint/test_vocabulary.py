"""Ids to rows and back, for any text, one by one and in bulk, also where ids share a slot."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import vocabulary as module
from models.checkpoint.vocabulary import EMPTY, Vocabulary
from tests.support.colliding_ids import colliding_ids

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # surrogates are not text: Arrow stores UTF-8
IDS = st.lists(TEXTS, unique=True)
STRANGE = [
    "",
    "\0",
    "\0\0",
    "a",
    "a\0",
    "\n",
    "12345678",
    "12345678\0",
    "123456789",
    "x" * 1000,
    "x" * 1001,
    "é",
    "日本語",
]


def vocabulary(ids: list[str]) -> Vocabulary:
    return Vocabulary(pa.array(ids, pa.string()))


def hash_of(id_: str) -> int:
    """The hash as docs/checkpoint-format.md has it."""
    data = id_.encode()
    hash_ = len(data)
    for start in range(0, len(data), 8):
        word = int.from_bytes(data[start : start + 8].ljust(8, b"\0"), "little")
        hash_ = ((hash_ ^ word) * 0x9E3779B97F4A7C15) % 2**64
        hash_ = hash_ ^ (hash_ >> 32)
    return hash_


@pytest.fixture
def one_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every id has the last slot but one for its home."""

    def multiply(hashes_B: np.ndarray, _: object) -> np.ndarray:
        return np.full_like(hashes_B, 2**64 - 2)

    monkeypatch.setattr(module, "_mix", multiply)
    monkeypatch.setattr(module, "FEW", 0)  # the last few are looked up one by one, with a hash of their own


@given(IDS)
def test_rows_and_lookup_are_inverse(ids: list[str]) -> None:
    held = vocabulary(ids)
    assert held.rows(ids).tolist() == list(range(len(ids)))
    assert held.lookup(np.arange(len(ids))) == ids
    assert [held[row] for row in range(len(held))] == ids


@given(IDS, st.lists(TEXTS))
def test_a_single_id_has_the_row_it_has_in_a_batch(ids: list[str], others: list[str]) -> None:
    held, asked = vocabulary(ids), others + ids
    expected = [ids.index(id_) if id_ in ids else len(ids) for id_ in asked]
    assert held.rows(asked).tolist() == [held.row(id_) for id_ in asked] == expected
    assert [held.row(id_) < len(held) for id_ in asked] == [id_ in ids for id_ in asked]


@given(st.lists(TEXTS | st.binary(max_size=40).map(lambda data: data.decode("latin-1")), unique=True, min_size=1))
def test_the_hash_is_the_specified_one(ids: list[str]) -> None:
    held = vocabulary(ids)
    homes = held._homes(module._Ids(held._words, held._offsets[:-1], held._offsets[1:]))
    assert homes.tolist() == [hash_of(id_) % len(held.slots) for id_ in ids]


def test_the_hash_of_examples_in_the_specification() -> None:
    assert [f"{hash_of(id_):016x}" for id_ in ("", "1", "tt0012345")] == EXAMPLES


EXAMPLES = ["0000000000000000", "aa66d2c777919137", "b56e61d424ec4fcd"]


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 20_000])
def test_every_id_is_found_and_no_other(count: int) -> None:
    ids = [f"item-{number:09d}" if number % 3 else str(number) for number in range(2 * count)]
    held = vocabulary(ids[:count])
    expected = list(range(count)) + [count] * count
    for asked in (ids, pa.array(ids), pa.array(ids, pa.large_string())):
        assert held.rows(asked).tolist() == expected
    assert [held.row(id_) for id_ in ids] == expected


@pytest.mark.parametrize("given_as", ["strings", "string", "large_string", "dictionary", "chunks", "slice"])
def test_ids_may_come_in_any_form(given_as: str) -> None:
    held = vocabulary(STRANGE)
    asked = [*STRANGE[::-1], "unknown", "b\0", "12345678\0\0", "x" * 999]
    forms: dict[str, Any] = {
        "strings": asked,
        "string": pa.array(asked),
        "large_string": pa.array(asked, pa.large_string()),
        "dictionary": pa.array([*asked, *asked]).dictionary_encode()[: len(asked)],
        "chunks": pa.chunked_array([asked[:3], [], asked[3:]], pa.string()),
        "slice": pa.array(["before", *asked, "after"])[1:-1],
    }
    assert held.rows(forms[given_as]).tolist() == [*range(len(STRANGE))[::-1], *[len(STRANGE)] * 4]


def test_bytes_that_are_not_utf8_are_an_id_that_is_not_held() -> None:
    assert vocabulary(["a", "b"]).rows(_strings([0, 1, 2], b"b\xff")).tolist() == [1, 2]


@pytest.mark.parametrize("offsets", [[0, 5, 4], [0, -1, 2], [0, 2, 1, 4]])
def test_ids_outside_their_bytes_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="outside"):
        vocabulary(["a"]).rows(_strings(offsets, bytes(4)))


def _strings(offsets: list[int], data: bytes) -> pa.StringArray:
    """An array of strings as Arrow takes it, unchecked."""
    buffer = pa.py_buffer(np.array(offsets, np.int32))
    return pa.StringArray.from_buffers(len(offsets) - 1, buffer, pa.py_buffer(data))


@pytest.mark.parametrize("asked", [pa.array(["a", None]), pa.array(["a", None]).dictionary_encode()])
def test_nulls_are_refused(asked: pa.Array) -> None:
    with pytest.raises(ValueError, match="null"):
        vocabulary(["a"]).rows(asked)


def test_numbers_are_no_ids() -> None:
    with pytest.raises(TypeError, match="int64"):
        vocabulary(["1"]).rows(pa.array([1]))


def test_half_a_character_is_an_unknown_id() -> None:
    held = vocabulary(["a", "😀"])
    assert held.rows(["\ud83d", "a", "\ud83d\ude00", "\ud83d\0"]).tolist() == [2, 0, 2, 2]
    assert held.row("\ud83d\ude00") == 2


def test_ids_are_not_normalised() -> None:
    held = vocabulary(["é", "e\u0301", "É", "1", "01", " 1"])
    assert held.rows(["e\u0301", "01", "É", " 1"]).tolist() == [1, 4, 2, 5]


@pytest.mark.parametrize("asked", [[], pa.array([], pa.string()), pa.chunked_array([], pa.string())])
def test_rows_of_nothing_are_int64(asked: Any) -> None:
    assert vocabulary(["a"]).rows(asked).dtype == np.int64


def test_an_empty_vocabulary_holds_nothing() -> None:
    held = vocabulary([])
    assert (len(held), held.row(""), held.rows(["", "a"]).tolist()) == (0, 0, [0, 0])


@pytest.mark.usefixtures("one_home")
@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_a_cluster_goes_on_at_the_front_of_the_table(count: int) -> None:
    ids = [str(number) for number in range(count)]
    held = vocabulary(ids)
    size = len(held.slots)
    assert held.slots[(np.arange(count) + size - 2) % size].tolist() == list(range(count))
    assert held.slots[(count + size - 2) % size] == EMPTY
    assert held.rows([*ids, "other"]).tolist() == list(range(count + 1))


def test_a_single_id_follows_a_full_cluster_around_the_end() -> None:
    names = (str(number) for number in range(1_000_000))
    ids = [name for name, _ in zip((name for name in names if hash_of(name) % 64 >= 62), range(16), strict=False)]
    held = vocabulary(ids[:15])
    assert len(held.slots) == 64
    assert [held.row(id_) for id_ in ids] == held.rows(ids).tolist() == list(range(16))


def test_the_same_home_is_not_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    held = vocabulary(["abcdefgh"])
    home = hash_of("abcdefgh") % len(held.slots)
    monkeypatch.setattr(held, "_homes", lambda ids: np.full(len(ids.lengths), home))
    for asked in ("abcdefgi", "abcdefgh\0", "abcdefg", "abcdefghabcdefgh"):
        assert held.rows([asked] * 30).tolist() == [1] * 30


def test_ids_that_were_chosen_to_share_a_hash_are_found_and_take_few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of those that are there, of which most are far from their home, and of those that are not."""
    chosen = colliding_ids(1_200)
    assert len({hash_of(id_) for id_ in chosen}) == 1
    others = [f"other {number}" for number in range(module.SMALL)]
    ids, unknown = chosen[:1_000] + others, chosen[1_000:]
    probes = 0
    probe = Vocabulary._probe

    def counted(self: Vocabulary, ids: Any, slots_C: Any) -> Any:
        nonlocal probes
        probes += len(slots_C)
        return probe(self, ids, slots_C)

    monkeypatch.setattr(Vocabulary, "_probe", counted)
    held = vocabulary(ids)
    assert probes <= module.PROBES * len(chosen) + 10 * len(ids)  # without a bound 1,000² / 2
    assert len(held._far) >= 1_000 - module.PROBES
    asked = ids + unknown
    expected = [*range(len(ids))] + [len(ids)] * len(unknown)
    assert held.rows(asked).tolist() == held.rows(pa.array(asked)).tolist() == expected
    assert [held.row(id_) for id_ in asked] == expected


@pytest.mark.parametrize("ids", [["a", "b", "a"], ["a", None], ["x" * 20, "x" * 20], ["", ""]])
def test_repeated_and_missing_ids_are_refused(ids: list[str | None]) -> None:
    with pytest.raises(ValueError, match="distinct and not null"):
        Vocabulary(pa.array(ids, pa.string()))


def test_a_table_of_the_least_length_serves_as_well() -> None:
    ids = ["a", "b", "c", "d"]
    slots = np.full(8, EMPTY, np.int32)
    for row, id_ in enumerate(ids):
        slot = hash_of(id_) % 8
        while slots[slot] != EMPTY:
            slot = (slot + 1) % 8
        slots[slot] = row
    assert Vocabulary(pa.array(ids), slots).rows([*ids, "e"]).tolist() == [0, 1, 2, 3, 4]


SLOTS = vocabulary(["a", "b", "c"]).slots


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (SLOTS.astype(np.int64), "int32"),
        (SLOTS.reshape(2, -1), "vector"),
        (np.array([0, 1, 2, -1], np.int32), "4 slots for 3 ids"),
        (SLOTS[:-1], "15 slots"),
        (SLOTS[:0], "0 slots"),
        (np.where(SLOTS == 2, 3, SLOTS).astype(np.int32), "row that does not exist"),
        (np.where(SLOTS == -1, -2, SLOTS).astype(np.int32), "row that does not exist"),
        (np.zeros(16, np.int32), "16 slots are taken, expected 3"),
        (np.where(SLOTS == 2, 1, SLOTS).astype(np.int32), "row 2 is not found"),
        (np.where(SLOTS == 2, -1, SLOTS).astype(np.int32), "2 slots are taken"),
        (np.roll(SLOTS, 8), "is not found"),
    ],
)
def test_a_table_that_does_not_find_every_id_is_refused(slots: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Vocabulary(pa.array(["a", "b", "c"]), slots)


def test_a_mapped_buffer_that_ends_with_its_page_is_not_read_past_its_end(tmp_path: Path) -> None:
    ids = [f"{number:04x}" for number in range(mmap.PAGESIZE // 4)]
    (tmp_path / "ids").write_bytes("".join(ids).encode())
    mapped = pa.memory_map(str(tmp_path / "ids")).read_buffer()
    assert mapped.size % mmap.PAGESIZE == 0
    offsets = pa.py_buffer(np.arange(0, mapped.size + 1, 4, dtype=np.int32))
    held = Vocabulary(pa.StringArray.from_buffers(len(ids), offsets, mapped))
    assert held.rows(ids).tolist() == list(range(len(ids)))
    assert held._words.data.ctypes.data == mapped.address
