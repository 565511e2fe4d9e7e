"""How much a rating counts by its age."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.data import interactions
from training.data.interactions import NO_TIME
from training.data.recency import DAY, recency_weights
from training.errors import ConfigError

RATINGS = interactions([(0, 0, 1.0), (0, 1, 2.0), (1, 0, 3.0), (1, 1, 4.0)], users=2, items=2)


def test_a_rating_counts_half_as_much_for_each_half_life() -> None:
    ratings = replace(RATINGS, timestamps_N=np.array([70, 60, 50, NO_TIME]) * np.array([DAY, DAY, DAY, 1]))
    weights_N = recency_weights(ratings, 10.0)
    assert weights_N.dtype == np.float32
    assert weights_N.tolist() == [1, 1 / 2, 1 / 4, 1 / 4]


def test_without_times_there_are_no_weights() -> None:
    for times_N in (None, np.full(4, NO_TIME)):
        with pytest.raises(ConfigError, match="--half-life: the ratings have no timestamps"):
            recency_weights(replace(RATINGS, timestamps_N=times_N), 10.0)
