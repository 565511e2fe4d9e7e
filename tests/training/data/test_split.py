import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.interactions import Interactions
from training.data.split import Split, parse_split, split
from training.errors import ConfigError


def ratings(users: list[int], timestamps: list[int] | None) -> Interactions:
    return Interactions(
        users_N=np.array(users, np.int32),
        items_N=np.arange(len(users), dtype=np.int32),
        ratings_N=np.ones(len(users), np.float32),
        timestamps_N=None if timestamps is None else np.array(timestamps, np.int64),
        user_ids=pa.array([str(user) for user in range(max(users) + 1)]),
        item_ids=pa.array([str(item) for item in range(len(users))]),
    )


@st.composite
def histories(draw: st.DrawFn) -> Interactions:
    """Two users or more; user 0 has two ratings, so that every split leaves something."""
    users = [0, 0, *draw(st.lists(st.integers(0, 5), min_size=1, max_size=40))]
    times = draw(st.lists(st.integers(-3, 3), min_size=len(users), max_size=len(users)))
    return ratings(users, times)


KINDS = st.one_of(
    st.sampled_from([Split("last-out"), Split("none")]),
    st.builds(Split, st.sampled_from(["random", "time"]), st.fractions(Fraction(1, 50), Fraction(1, 2))),
)


@given(histories(), KINDS, st.integers(0, 9))
def test_the_parts_are_disjoint_complete_and_in_file_order(table: Interactions, kind: Split, seed: int) -> None:
    train, test = split(table, kind, np.random.default_rng(seed))
    assert sorted([*train, *test]) == list(range(len(table)))
    assert list(train) == sorted(train)
    assert list(test) == sorted(test)
    assert train.dtype == test.dtype == np.int64


@given(histories(), KINDS, st.integers(0, 9))
def test_the_same_generator_gives_the_same_parts(table: Interactions, kind: Split, seed: int) -> None:
    first, second = (split(table, kind, np.random.default_rng(seed))[1] for _ in range(2))
    assert list(first) == list(second)


@given(histories(), KINDS)
def test_the_test_part_has_the_promised_size(table: Interactions, kind: Split) -> None:
    expected = {
        "none": 0,
        "last-out": len(set(table.users_N)),
        "random": math.ceil((kind.fraction or 0) * len(table)),
        "time": math.ceil((kind.fraction or 0) * len(table)),
    }
    _, test = split(table, kind, np.random.default_rng(0))
    assert len(test) == expected[kind.kind]


@given(histories())
def test_last_out_takes_the_first_of_each_users_latest(table: Interactions) -> None:
    _, test = split(table, Split("last-out"), np.random.default_rng(0))
    times = table.timestamps_N
    assert times is not None
    expected = [max(np.flatnonzero(table.users_N == user), key=lambda row: times[row]) for user in set(table.users_N)]
    assert list(test) == sorted(expected)


@given(histories(), st.fractions(Fraction(1, 50), Fraction(1, 2)))
def test_time_trains_on_nothing_later_than_it_tests_on(table: Interactions, fraction: Fraction) -> None:
    train, test = split(table, Split("time", fraction), np.random.default_rng(0))
    times = table.timestamps_N
    assert times is not None
    assert max(times[train]) <= min(times[test])


def test_time_cuts_ties_in_file_order() -> None:
    _, test = split(ratings([0, 1, 2, 3], [5, 5, 5, 1]), parse_split("time:0.5"), np.random.default_rng(0))
    assert list(test) == [1, 2]


def test_random_takes_the_end_of_the_permutation() -> None:
    table = ratings([0] * 1000, None)
    train, test = split(table, parse_split("random:0.1"), np.random.default_rng(3))
    permutation = np.random.default_rng(3).permutation(1000)
    assert set(test) == set(permutation[900:])
    assert set(train) == set(permutation[:900])


@pytest.mark.parametrize(
    ("fraction", "rows", "expected"), [("0.07", 100, 7), ("0.1", 10, 1), ("0.1", 11, 2), ("1/3", 9, 3)]
)
def test_the_size_is_rounded_up_from_the_exact_product(fraction: str, rows: int, expected: int) -> None:
    _, test = split(ratings([0] * rows, None), parse_split(f"random:{fraction}"), np.random.default_rng(0))
    assert len(test) == expected


def test_a_users_only_rating_is_the_latest() -> None:
    train, test = split(ratings([0, 1, 1], [1, 2, 3]), parse_split("last-out"), np.random.default_rng(0))
    assert (list(train), list(test)) == ([1], [0, 2])


@pytest.mark.parametrize("text", ["last-out", "random:0.1", "time:0.25", "none"])
def test_a_split_prints_as_it_was_asked_for(text: str) -> None:
    assert str(parse_split(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "last", "last-out:0.1", "none:", "random", "random:", "random:0", "random:1", "random:-0.1", "random:2",
     "random:nan", "random:inf", "random:x", "random:1/0", "time", "time:0.1:2", "RANDOM:0.1"],
)  # fmt: skip
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        parse_split(text)


@pytest.mark.parametrize("text", ["last-out", "time:0.1"])
def test_splits_by_time_need_timestamps(text: str) -> None:
    with pytest.raises(ConfigError, match="no timestamps"):
        split(ratings([0, 0], None), parse_split(text), np.random.default_rng(0))


@pytest.mark.parametrize("text", ["last-out", "random:0.9"])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="left to train on"):
        split(ratings([0, 1], [1, 1]), parse_split(text), np.random.default_rng(0))
