"""The replay against what the service's engine answers, rating by rating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from app.engine.folding import fold, known_items
from app.engine.predictions import predict_folded
from app.engine.serving_model import ServingModel
from models.registry.directory import load, publish
from tests.support.drafts import random_draft
from training.data.interactions import Interactions
from training.errors import ConfigError
from training.evaluation import replay as replays
from training.evaluation.replay import Replay, replay

SCALE = (1.0, 5.0)
NEW_USERS, UNKNOWN_ITEMS = ["new 1", "new 2"], ["unknown 1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServingModel:
    folder = tmp_path_factory.mktemp("versions")
    publish(folder, random_draft(0, users=20, items=30, factors=4))
    return ServingModel(load(folder))


def training(model: ServingModel) -> Interactions:
    seen = model.checkpoint.seen
    users_N = np.repeat(np.arange(len(model.users) + 1, dtype=np.int32), seen.offsets.diff().numpy())
    return Interactions(
        users_N=users_N,
        items_N=seen.items_N.numpy(),
        ratings_N=seen.ratings_N.numpy(),
        timestamps_N=None,
        user_ids=pa.array(model.users.ids).cast(pa.string()),
        item_ids=pa.array(model.items.ids).cast(pa.string()),
    )


def held_out(train: Interactions, seed: int = 0, ratings: int = 120) -> Interactions:
    """Ratings of few users, so that some have given many, in no order of time and with ties."""
    rng = np.random.default_rng(seed)
    users = [*train.user_ids.to_pylist()[:3], *NEW_USERS]
    items = [*train.item_ids.to_pylist(), *UNKNOWN_ITEMS]
    known = set(train.pairs_N().tolist())
    pairs = [
        (user, item)
        for user in range(len(users))
        for item in range(len(items))
        if user > 2 or item >= train.items or user * (train.items + 1) + item not in known
    ]
    rows = rng.permutation(len(pairs))[:ratings]
    return Interactions(
        users_N=np.array([pairs[row][0] for row in rows], np.int32),
        items_N=np.array([pairs[row][1] for row in rows], np.int32),
        ratings_N=rng.integers(1, 6, len(rows)).astype(np.float32),
        timestamps_N=rng.integers(0, 50, len(rows)),
        user_ids=pa.array(users),
        item_ids=pa.array(items),
    )


def replayed(model: ServingModel, test: Interactions) -> Replay:
    return replay(model.checkpoint.model, training(model), test, SCALE)


def test_each_answer_is_that_of_the_service_with_the_ratings_given_by_then(model: ServingModel) -> None:
    test = held_out(training(model))
    found = replayed(model, test)
    assert test.timestamps_N is not None
    given: dict[str, list[tuple[str, float]]] = {}
    for place, row in enumerate(np.argsort(test.timestamps_N, kind="stable").tolist()):
        user, item = test.user_ids[test.users_N[row]].as_py(), test.item_ids[test.items_N[row]].as_py()
        earlier = given.setdefault(user, [])
        assert found.since_N[place] == len(earlier)
        assert found.is_new_N[place] == (user in NEW_USERS)
        if earlier:
            trained_T, values_T = model.training_ratings(model.users.row(user))
            ids = [*model.items.ids.take(pa.array(trained_T)).to_pylist(), *(item for item, _ in earlier)]
            rated = known_items(model, ids, [*values_T.tolist(), *(rating for _, rating in earlier)])
            answered = predict_folded(model, fold(model, rated), model.items.rows([item])).ratings_B[0]
            assert float(found.folded_N[place]) == pytest.approx(float(answered), abs=2e-4)
        else:
            assert found.folded_N[place] == found.alone_N[place]
        earlier.append((item, float(test.ratings_N[row])))
    assert max(map(len, given.values())) > 20


def test_batches_do_not_change_answers(model: ServingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    test = held_out(training(model))
    together = replayed(model, test).folded_N
    monkeypatch.setattr(replays, "RATINGS_AT_ONCE", 7)
    assert replayed(model, test).folded_N.numpy() == pytest.approx(together.numpy(), abs=1e-4)


def test_groups_add_up_to_the_whole(model: ServingModel) -> None:
    test = held_out(training(model))
    figures = replayed(model, test).figures()
    groups = figures["since_fit"]
    assert [(group["from"], group["to"]) for group in groups] == [(0, 0), (1, 4), (5, 19), (20, None)]
    assert sum(group["ratings"] for group in groups) == figures["ratings"] == len(test)
    assert sum(group["ratings"] * group["rmse"] ** 2 for group in groups) == pytest.approx(
        len(test) * figures["rmse"] ** 2
    )
    assert groups[0]["rmse"] == groups[0]["rmse_fold_in"]
    assert figures["users"] == 5
    assert sum(group["ratings"] for group in figures["new_users"]) < len(test)


def test_of_many_ratings_only_those_of_some_users_are_replayed(
    model: ServingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "MOST", 60)
    test = held_out(training(model))
    found = replayed(model, test)
    counts = np.bincount(test.users_N)[np.random.default_rng(0).permutation(5)]
    expected = next(int(size) for size in np.cumsum(counts) if size >= 60)
    assert len(found.since_N) == expected < len(test)


def test_ratings_without_times_are_refused(model: ServingModel) -> None:
    with pytest.raises(ConfigError, match="no timestamps"):
        replayed(model, replace(held_out(training(model)), timestamps_N=None))
