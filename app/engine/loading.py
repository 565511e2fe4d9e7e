"""From the name of a version to a model that may be served: loaded, verified, proven and warm.

All of it happens on the caller's thread, beside the model that answers meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from app.engine.lists import top_list, top_lists
from app.engine.predictions import predict, predict_pair
from app.engine.serving_model import Served
from app.engine.types import ListQuery, Pair, Pairs, RankBy
from app.ratings.revisions import Revisions
from models.checkpoint import golden, reader
from models.registry.directory import version_path
from models.registry.lifecycle import Hold
from models.sharding import DevicePlacement

WARM_USERS = 3


def load(directory: Path, version: str, place: DevicePlacement, changes: Revisions | None = None) -> Served:
    """The model of a version, verified and proven.

    Raises a CheckpointError or OSError for one that cannot be read, GoldenPairsError for one that predicts something
    else than it did when it was published.
    """
    hold = Hold(directory / version)
    served = Served.of(reader.read(version_path(directory, version), place.device), hold, changes, place.shards)
    _prove(served)
    return served


def prepare(directory: Path, version: str, place: DevicePlacement, changes: Revisions | None = None) -> Served:
    """As `load`, and warm."""
    served = load(directory, version, place, changes)
    _warm_up(served)
    return served


def _prove(served: Served) -> None:
    """Ask for the golden pairs in both ways that clients can."""
    pairs = Pairs(*(served.checkpoint.golden[name].to_pylist() for name in ("user", "item")))
    golden.check(served.checkpoint.golden, predict(served, pairs).ratings_B)
    one_by_one = [predict_pair(served, Pair(*pair)).rating for pair in zip(pairs.users, pairs.items, strict=True)]
    golden.check(served.checkpoint.golden, one_by_one)


def _warm_up(served: Served) -> None:
    """Make lists in every order, so that the first client does not wait for pages, titles and kernels."""
    for user in served.checkpoint.golden["user"].unique().to_pylist()[:WARM_USERS]:
        queries = [ListQuery(user=user, rank_by=RankBy(order)) for order in served.orderings]
        for query in queries:
            top_list(served, query)
        top_lists(served, queries, [None] * len(queries))
