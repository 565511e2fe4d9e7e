"""How the ratings of a job differ from those that the served model was fitted on. Shapes: N training ratings."""

from __future__ import annotations

import numpy as np

from models.checkpoint import Checkpoint
from models.manifest import Drift
from training.data.interactions import Interactions


def measure(train: Interactions, served: Checkpoint) -> Drift:
    """The drift of the training part against the version being served."""
    theirs = train.aligned(served.users.ids, served.items.ids)
    known_users_N, known_items_N = theirs.users_N < theirs.users, theirs.items_N < theirs.items
    data = served.manifest.data
    return Drift(
        against=served.version,
        rating_mean=data.rating_mean,
        rating_deviation=data.rating_deviation,
        known_users=float(np.mean(known_users_N)),
        known_items=float(np.mean(known_items_N)),
        coverage=float(np.mean(known_users_N & known_items_N)),
    )
