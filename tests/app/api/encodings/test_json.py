"""What the decoder leaves to pydantic is in `tests/app/api/test_plain.py`."""

from __future__ import annotations

import json as plain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.encodings import json
from app.engine.types import (
    SOURCES,
    ListOrder,
    ListSource,
    Pair,
    Pairs,
    Prediction,
    Predictions,
    RankedItem,
    Source,
    TopList,
)

LIST = TopList(
    user="ü",
    source=ListSource.MODEL,
    rank_by=ListOrder.RATING,
    items=[RankedItem('"', 4.5, 4.5, None, None), RankedItem("2", 1.0, 0.5, "T", 1999)],
    version="v1",
)
LISTED = {
    "user": "ü",
    "source": "model",
    "rank_by": "rating",
    "items": [
        {"item": '"', "rating": 4.5, "score": 4.5, "title": None, "year": None},
        {"item": "2", "rating": 1.0, "score": 0.5, "title": "T", "year": 1999},
    ],
}


def test_plain_bodies_are_decoded() -> None:
    decode = json.Decoder(id_length=5)
    assert decode(b'{"user": "1", "item": 2}') == Pair("1", "2")
    assert decode(b'{"users": ["1", 2], "items": ["\\u00fc", "b"]}') == Pairs(["1", "2"], ["ü", "b"])
    assert decode(b'{"users": [], "items": []}') == Pairs([], [])


@pytest.mark.parametrize(
    "body",
    [
        b'{"user": "1", "item": "users"}',
        b'{"user": "123456", "item": "1"}',
        b'{"user": 123456, "item": "1"}',
        b"{",
        b"[]",
    ],
)
def test_what_is_not_plain_is_left_to_others(body: bytes) -> None:
    assert json.Decoder(id_length=5)(body) is None


@pytest.mark.parametrize("sources", [[], [0], [0, 0, 0], [3, 0, 1, 2, 2]])
def test_columns_are_encoded(sources: list[int]) -> None:
    ratings = np.linspace(1, 5, len(sources), dtype=np.float32)
    encoded = json.encode_predictions(Predictions(ratings, np.array(sources, np.uint8), "v1"))
    assert plain.loads(encoded) == {
        "ratings": ratings.tolist(),
        "sources": [SOURCES[source] for source in sources],
        "model_version": "v1",
    }


def test_a_pair_is_encoded() -> None:
    encoded = json.encode_predictions(Prediction(3.5, Source.USER_BIAS, "v1"))
    assert encoded == b'{"rating":3.5,"source":"user_bias","model_version":"v1"}'


def test_lists_are_encoded() -> None:
    assert plain.loads(json.encode_list(LIST)) == LISTED | {"model_version": "v1"}
    assert plain.loads(json.encode_lists([LIST, LIST], "v1")) == {"lists": [LISTED, LISTED], "model_version": "v1"}


@given(
    st.recursive(
        st.none() | st.text('\\",[{a'), lambda inner: st.lists(inner) | st.dictionaries(st.text('\\",['), inner)
    )
)
def test_values_are_counted_wherever_a_piece_ends_and_whatever_stands_in_texts(value: object) -> None:
    body, wanted = plain.dumps(value).encode(), values(value)
    with pytest.MonkeyPatch.context() as patch:
        for piece in (3, 8, 1 << 18):
            patch.setattr(json, "PIECE", piece)
            assert not json.has_more_values(body, wanted, len(body))
            assert wanted == 0 or json.has_more_values(body, wanted - 1, len(body))


def values(value: object) -> int:
    """Opening brackets, and commas between."""
    if not isinstance(value, list | dict):
        return 0
    inner = value if isinstance(value, list) else value.values()
    return 1 + max(len(value) - 1, 0) + sum(map(values, inner))
