"""What a trial holds out follows the rule of the test part."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.data import interactions
from training.data.interactions import Interactions
from training.data.split import parse_split
from training.data.trial_split import OF_USERS, latest_of_each, trial_rows


@pytest.fixture
def ratings() -> Interactions:
    rng = np.random.default_rng(0)
    rows = interactions([(int(user), int(item), 3.0) for user, item in rng.integers(40, size=(4000, 2))], 40, 40)
    return replace(rows, timestamps_N=rng.integers(1000, size=4000))


@pytest.mark.parametrize("kind", ["none", "random:0.1"])
def test_without_a_rule_by_time_any_ratings_will_do(kind: str, ratings: Interactions) -> None:
    assert trial_rows(ratings, parse_split(kind)) is None


def test_without_times_any_ratings_will_do(ratings: Interactions) -> None:
    assert trial_rows(replace(ratings, timestamps_N=None), parse_split("last-out")) is None


def test_a_split_by_time_holds_out_the_latest_and_at_most_a_tenth(ratings: Interactions) -> None:
    times_N = ratings.timestamps_N
    for kind, size in (("time:0.05", 200), ("time:0.3", 400)):
        chosen_N = trial_rows(ratings, parse_split(kind))
        assert chosen_N.sum() == size
        assert times_N[~chosen_N].max() <= times_N[chosen_N].min()


def test_last_out_holds_out_the_latest_of_each_user(ratings: Interactions) -> None:
    chosen_N = trial_rows(ratings, parse_split("last-out"))
    assert chosen_N.mean() == pytest.approx(OF_USERS, rel=0.02)
    for user in range(40):
        own_N = ratings.users_N == user
        assert ratings.timestamps_N[own_N & ~chosen_N].max() <= ratings.timestamps_N[own_N & chosen_N].min()


def test_half_of_a_users_ratings_are_left() -> None:
    users_N, times_N = np.array([0, 0, 0, 1, 2, 2], np.int32), np.array([5, 9, 7, 1, 3, 2])
    assert latest_of_each(users_N, times_N, 9).tolist() == [False, True, True, True, True, False]
