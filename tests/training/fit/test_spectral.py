"""The spectral model: the formulas of docs/how-it-works.md, and what there is of it where there is hardly any data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.fit.spectral import ITEM_RIDGE, USER_RIDGE, Spectral, features
from training.fit.trainer import TrainingSet
from training.fit.trainers.bias import bias_model

USERS, ITEMS = 60, 40


def training_set(
    users_N: np.ndarray, items_N: np.ndarray, ratings_N: np.ndarray, users: int, items: int
) -> TrainingSet:
    return TrainingSet(
        users=users,
        items=items,
        users_N=torch.from_numpy(users_N).int(),
        items_N=torch.from_numpy(items_N).int(),
        ratings_N=torch.from_numpy(ratings_N).float(),
    )


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """600 ratings; the last user and the last item have none."""
    rng = np.random.default_rng(0)
    pairs_N = rng.permutation((USERS - 1) * (ITEMS - 1))[:600]
    users_N, items_N = np.divmod(pairs_N, ITEMS - 1)
    return training_set(users_N, items_N, rng.integers(1, 6, 600).astype(float), USERS, ITEMS)


def reference(data: TrainingSet, count: int) -> np.ndarray:
    """What the model predicts for all pairs, in plain float64."""
    users_N, items_N = data.users_N.numpy(), data.items_N.numpy()
    rated_UI = np.zeros((USERS, ITEMS))
    rated_UI[users_N, items_N] = 1
    counts_U, counts_I = rated_UI.sum(1), rated_UI.sum(0)
    roots_U, roots_I = np.maximum(counts_U, 1) ** -0.25, np.maximum(counts_I, 1) ** -0.25
    left, values, right = np.linalg.svd(roots_U[:, None] * rated_UI * roots_I)
    user_UA = roots_U[:, None] * left[:, :count] * values[:count]
    item_IA = roots_I[:, None] * right[:count].T * values[:count]
    user_UA /= np.sqrt(counts_U @ (user_UA**2).sum(1) / counts_U.sum())
    item_IA /= np.sqrt(counts_I @ (item_IA**2).sum(1) / counts_I.sum())
    bias_UI = bias_model(data)(*torch.meshgrid(torch.arange(USERS), torch.arange(ITEMS), indexing="ij")).double()
    left_UI = np.zeros((USERS, ITEMS))
    left_UI[users_N, items_N] = data.ratings_N.numpy() - bias_UI.numpy()[users_N, items_N]
    part_UI = ridge(left_UI, rated_UI, item_IA, USER_RIDGE)
    return bias_UI.numpy() + part_UI + ridge((left_UI - part_UI).T, rated_UI.T, user_UA, ITEM_RIDGE).T


def ridge(left_RC: np.ndarray, rated_RC: np.ndarray, feature_CA: np.ndarray, penalty: float) -> np.ndarray:
    """Each row's values regressed on the features of the columns where it has any."""
    found = np.zeros_like(left_RC)
    for row, rated_C in enumerate(rated_RC > 0):
        known_A = feature_CA[rated_C]
        normal_AA = known_A.T @ known_A + penalty * np.eye(feature_CA.shape[1])
        found[row] = feature_CA @ np.linalg.solve(normal_AA, known_A.T @ left_RC[row, rated_C])
    return found


@pytest.mark.parametrize("count", [3, 8])
def test_it_predicts_what_the_formulas_say(data: TrainingSet, count: int) -> None:
    model = Spectral(data, bias_model(data), ITEMS).model(count)  # with all features the iteration is exact

    pairs = torch.meshgrid(torch.arange(USERS), torch.arange(ITEMS), indexing="ij")
    np.testing.assert_allclose(model(*pairs).numpy(), reference(data, count), atol=1e-4)


def test_who_has_no_ratings_has_no_features_and_the_biases_predict_their_ratings(data: TrainingSet) -> None:
    user_UA, item_IA = features(data, 8)
    model, biases = Spectral(data, bias_model(data), 8).model(8), bias_model(data)

    nobody, nothing = torch.tensor([USERS - 1]), torch.tensor([ITEMS - 1])
    assert not user_UA[-1].any()
    assert not item_IA[-1].any()
    torch.testing.assert_close(model(nobody, nothing), biases(nobody, nothing))


@pytest.mark.parametrize(("users", "items"), [(1, 1), (1, 30), (30, 1), (3, 2)])
def test_there_are_no_more_features_than_users_or_items(users: int, items: int) -> None:
    users_N, items_N = np.divmod(np.arange(users * items), items)
    data = training_set(users_N, items_N, np.arange(users * items) % 5 + 1.0, users, items)

    model = Spectral(data, bias_model(data), 8).model(8)

    assert model.user_factors.shape[1] == 2 * min(users, items)
    assert model(data.users_N.long(), data.items_N.long()).isfinite().all()


def test_equal_ratings_are_predicted_as_such(data: TrainingSet) -> None:
    equal = training_set(data.users_N.numpy(), data.items_N.numpy(), np.full(len(data), 4.0), USERS, ITEMS)

    model = Spectral(equal, bias_model(equal), 8).model(8)

    torch.testing.assert_close(model(equal.users_N.long(), equal.items_N.long()), equal.ratings_N)
