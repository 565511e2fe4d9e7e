"""How much each rating counts by its age: half as much for each half-life. Shapes: N ratings."""

from __future__ import annotations

import numpy as np

from training.data.interactions import NO_TIME, Float32s, Interactions
from training.errors import ConfigError

DAY = 86_400


def recency_weights(ratings: Interactions, half_life: float) -> Float32s:
    """The weight of each rating, given the half-life in days, (N,): 1 for the latest, less for all others.

    A rating without a time counts as the oldest one. Raises ConfigError where no rating has a time.
    """
    span = ratings.first_and_last
    if span is None or ratings.timestamps_N is None:
        raise ConfigError("--half-life: the ratings have no timestamps")
    times_N = np.where(ratings.timestamps_N == NO_TIME, span[0], ratings.timestamps_N)
    weights_N: Float32s = np.exp2((times_N - span[1]) / (half_life * DAY)).astype(np.float32)
    return weights_N
