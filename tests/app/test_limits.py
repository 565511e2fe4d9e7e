from __future__ import annotations

import pytest

from app.errors import InvalidRequestError
from app.limits import Limits

LIMITS = Limits(pairs=3, list_length=5, id_length=4)


def test_every_bound_can_be_reached() -> None:
    LIMITS.check_id("1234", "body", "user")
    LIMITS.check_pairs(["1"] * 3, ["1234"] * 3)
    LIMITS.check_list(5)


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
        LIMITS.check_pairs(users, items)
    assert list(caught.value.location) == location
