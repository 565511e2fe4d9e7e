from __future__ import annotations

import pyarrow as pa
import pytest

from app.api.limits import Limits
from app.engine.types import Pairs
from app.errors import InvalidRequestError

LIMITS = Limits(pairs=3, list_length=5, id_length=4, inline_ratings=2)


def test_every_bound_can_be_reached() -> None:
    LIMITS.check_id("1234", "body", "user")
    LIMITS.check_pairs(Pairs(["1"] * 3, ["1234"] * 3))
    LIMITS.check_pairs(Pairs(pa.chunked_array([["1"] * 3]), pa.chunked_array([["ünïç"] * 3])))
    LIMITS.check_list(5)
    LIMITS.check_lists(["1"], 3)


@pytest.mark.parametrize(
    ("users", "items", "location"),
    [
        (["1"] * 4, ["1"] * 4, ["body"]),
        (["1"], ["1", "2"], ["body"]),
        (["1", "12345"], ["1", "2"], ["body", "users", "1"]),
        (["1", "2"], ["12345", "2"], ["body", "items", "0"]),
    ],
)
def test_pairs_past_a_bound_are_refused(users: list[str], items: list[str], location: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        LIMITS.check_pairs(Pairs(users, items))
    assert list(caught.value.location) == location


@pytest.mark.parametrize(
    ("column", "message"),
    [(["1", ""], "at least one"), (["1", "ünïçx"], "at most 4"), (["12345", "1"], "at most 4")],
)
@pytest.mark.parametrize("dictionary", [False, True])
def test_ids_in_arrow_columns_are_held_to_the_same_bounds(column: list[str], message: str, dictionary: bool) -> None:
    array = pa.array(column)
    ids = pa.chunked_array([array.dictionary_encode() if dictionary else array])
    with pytest.raises(InvalidRequestError, match=message):
        LIMITS.check_pairs(Pairs(ids, ids))


def test_lists_that_hold_too_many_items_together_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"at most 3 items together \(RATECAST_MAX_PAIRS\)"):
        LIMITS.check_lists(["1", "2"], 2)


def test_a_list_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"at most 5 items \(RATECAST_MAX_LIST\)"):
        LIMITS.check_list(6, "query", "n")


def test_a_filter_that_names_too_many_items_is_refused() -> None:
    LIMITS.check_filter(["1"] * 3, "body", "only")
    with pytest.raises(InvalidRequestError, match="at most 3 items") as caught:
        LIMITS.check_filter(["1"] * 4, "body", "only")
    assert list(caught.value.location) == ["body", "only"]
