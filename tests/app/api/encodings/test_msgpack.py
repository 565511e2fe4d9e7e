from __future__ import annotations

from contextlib import suppress
from functools import partial

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.encodings import json, msgpack
from app.engine.types import Pair, Pairs, Prediction, Predictions, Source

decode = partial(msgpack.decode, most=100_000)

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


def test_a_pair_and_columns_are_decoded() -> None:
    assert decode(pack({"user": "1", "item": 2})) == Pair("1", "2")
    assert decode(pack({"users": ["1", 2], "items": ["a", "b"]})) == Pairs(["1", "2"], ["a", "b"])
    assert decode(pack({"user": "users", "item": "items"})) == Pair("users", "items")
    assert decode(pack({"items": ["a" * 50], "users": ["1"]})) == Pairs(["1"], ["a" * 50])
    assert decode(pack({"user": 2**64 - 1, "item": -5})) == Pair(str(2**64 - 1), "-5")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        pack([]),
        pack({}),
        pack({"user": "1"}),
        pack({"user": "1", "item": "2", "more": 3}),
        pack({"users": ["1"], "user": "1", "item": "1"}),
        pack({"user": None, "item": "2"}),
        pack({"user": True, "item": "2"}),
        pack({"user": b"1", "item": "2"}),
        pack({"users": "12", "items": "12"}),
        pack({"user": "1", "item": "2"})[:-1],
        pack({"user": "1", "item": "2"}) + b"\x00",
        pack({"user": msgspec.msgpack.Ext(1, b"x"), "item": "2"}),
        b"\x82\xa4user\xa1\xff\xa4item\xa11",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x82\xa5users\xdd\xff\xff\xff\xff",
    ],
    ids=lambda content: repr(content)[:30],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a valid msgpack body"):
        decode(content)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"user": "1", "itm": "2"}, "unknown member 'itm': did you mean 'item'?"),
        ({"user": "1"}, "either user and item, or users and items"),
        ({"user": True, "item": "secret"}, r"got `bool` - at `\$.user`"),
        ({"items": ["secret"], "users": ["1", None]}, r"at `\$.users\[1\]`"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_repeats_nothing(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode(pack(document))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("document", [{"user": "1", "item": "2"}, {"users": ["1", 2], "items": ["3", "4"]}])
def test_a_body_cut_anywhere_is_refused(document: dict[str, object]) -> None:
    content = pack(document)
    for size in range(len(content)):
        with pytest.raises(ValueError, match="not a valid msgpack body"):
            decode(content[:size])


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_decoded(content: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(decode(content), Pair | Pairs)


def test_answers_are_the_documents_of_json() -> None:
    many = Predictions(np.array([3.1, 1.7, 2.0], np.float32), np.array([0, 2, 1], np.uint8), "v1")
    for answer in (many, Prediction(float(np.float32(3.1)), Source.MODEL, "v1")):
        assert unpack(msgpack.encode_predictions(answer)) == msgspec.json.decode(json.encode_predictions(answer))


def test_columns_that_say_that_they_are_too_long_are_refused_before_they_are_decoded() -> None:
    """An id may take one byte of a body, and a hundred of memory."""
    with pytest.raises(ValueError, match="at most 100000 pairs"):
        decode(pack({"users": [1] * 100_001, "items": []}))
    assert len(decode(pack({"users": [1] * 100_000, "items": [1] * 100_000}))) == 100_000
