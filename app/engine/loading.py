"""Turns the name of a version into a model that may be served: loaded, verified, checked and warmed up.

This happens on the caller's thread, while the current model answers.
"""

from __future__ import annotations

from pathlib import Path

from app.engine.lists import top_list, top_lists
from app.engine.predictions import predict, predict_pair
from app.engine.serving_model import ServingModel
from app.engine.types import ListQuery, Pairs, RankBy
from app.ratings.revisions import Revisions
from models.checkpoint import golden, reader
from models.checkpoint.manifest import Manifest
from models.devices import DevicePlacement
from models.registry.directory import version_path
from models.registry.hold import Hold

WARM_USERS = 3

_ahead: dict[tuple[Path, str, DevicePlacement], ServingModel] = {}


def load(directory: Path, version: str, placement: DevicePlacement, revisions: Revisions | None = None) -> ServingModel:
    """The model of a version. Its files are verified, and its predictions compared with those at publication.

    Raises a CheckpointError or OSError if it cannot be read, GoldenPairsError if a prediction is
    different.
    """
    hold = Hold(directory / version)
    checkpoint = reader.read(version_path(directory, version), placement.device)
    model = ServingModel(checkpoint, hold, revisions, placement.shards)
    _check_golden_pairs(model)
    return model


def prepare(directory: Path, version: str, placement: DevicePlacement, revisions: Revisions | None) -> ServingModel:
    """As `load`, then make lists in every order, so that no client waits for pages, titles and kernels."""
    if (ahead := _ahead.pop((directory, version, placement), None)) is not None:
        return ahead.with_revisions(revisions)
    return _warmed_up(load(directory, version, placement, revisions))


def load_ahead(directory: Path, version: str, placement: DevicePlacement) -> Manifest:
    """Load a version before there is an engine. The engine of this process will have it. Raises as `load`."""
    model = _ahead[directory, version, placement] = _warmed_up(load(directory, version, placement))
    return model.checkpoint.manifest


def forget() -> None:
    """Forget what was loaded ahead and not taken: it would keep its version from being pruned."""
    _ahead.clear()


def _warmed_up(model: ServingModel) -> ServingModel:
    for user in model.checkpoint.golden["user"].unique().to_pylist()[:WARM_USERS]:
        queries = [ListQuery(user=user, rank_by=RankBy(order)) for order in model.orderings]
        for query in queries:
            top_list(model, query)
        top_lists(model, queries, [None] * len(queries))
    return model


def _check_golden_pairs(model: ServingModel) -> None:
    """Predict the golden pairs in both ways that answer clients: one pair, and columns."""
    expected = model.checkpoint.golden
    pairs = Pairs(*(expected[name].to_pylist() for name in ("user", "item")))
    golden.check(expected, predict(model, pairs).ratings_B)
    rows = zip(map(model.users.row, pairs.users), map(model.items.row, pairs.items), strict=True)
    golden.check(expected, [predict_pair(model, *pair).rating for pair in rows])
