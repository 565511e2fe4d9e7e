"""How the ratings of a job differ from those that the served model was fitted on. Shapes: N training ratings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.checkpoint.manifest import Drift
from models.checkpoint.reader import Checkpoint
from training.communicator import SINGLE_PROCESS, Communicator
from training.data.interactions import Interactions


def measure(train: Interactions, served: Checkpoint, communicator: Communicator = SINGLE_PROCESS) -> Drift:
    """The drift of the training part against the version being served."""
    theirs = train.aligned(served.users.ids, served.items.ids)
    known_users_N, known_items_N = theirs.users_N < theirs.users, theirs.items_N < theirs.items
    data = served.manifest.data
    return Drift(
        against=served.version,
        rating_mean=data.rating_mean,
        rating_deviation=data.rating_deviation,
        known_users=communicator.pooled(_share(known_users_N), len(train)),
        known_items=communicator.pooled(_share(known_items_N), len(train)),
        coverage=communicator.pooled(_share(known_users_N & known_items_N), len(train)),
    )


def _share(which_N: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(which_N)) if len(which_N) else 0.0
