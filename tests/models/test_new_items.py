"""Rows of items that were not fitted: from their ratings, and from genres, labels and years."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch

from models.attributes import AttributePrior
from models.checkpoint.extension import extended
from models.checkpoint.reader import Checkpoint
from models.fold_in import FoldInPrior
from models.mf import MatrixFactorization
from models.new_items import NewItemRows, NewItemSolver, Raters, RatingRows, RatingsOfNew
from models.registry.directory import load, publish
from models.stored_items import StoredItem, of_items
from models.training_ratings import TrainingRatings
from tests.support.drafts import random_draft, random_head

GENRES = ("Drama", "Comedy", "Western")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = tmp_path_factory.mktemp("checkpoints")
    publish(directory, random_draft(seed=0))
    return load(directory)


def catalogue(*items: dict[str, Any]) -> pa.Table:
    return of_items(StoredItem(str(number), **item) for number, item in enumerate(items))


def nothing_known(count: int) -> pa.Table:
    return catalogue(*[{}] * count)


def solver_of(loaded: Checkpoint, catalogue: pa.Table | None = None) -> NewItemSolver:
    known = loaded.catalogue if catalogue is None else catalogue
    return NewItemSolver.learn(loaded.model, loaded.prior, loaded.relevance, known, loaded.seen)


def raters_of(loaded: Checkpoint, users: npt.NDArray[np.int64]) -> Raters:
    tables = loaded.model.user_factors, loaded.model.user_bias
    head = None if loaded.relevance is None else loaded.relevance.user_factors[users].numpy()
    return Raters(*(table[users].numpy() for table in tables), head)


def given(*of_items: list[tuple[int, float]]) -> RatingsOfNew:
    """The rater and the value of each rating of each item."""
    pairs = np.array([pair for item in of_items for pair in item], np.float64).reshape(-1, 2)
    return RatingsOfNew(np.cumsum([0, *map(len, of_items)]), pairs[:, 0].astype(np.int64), pairs[:, 1])


def test_a_row_minimises_the_squared_errors_and_the_distance_from_the_average(loaded: Checkpoint) -> None:
    model, raters = loaded.model, raters_of(loaded, np.arange(7))
    plain = nothing_known(len(loaded.items))
    values = [5.0, 1.0, 4.0, 4.0, 2.0, 3.0, 5.0]
    rows = solver_of(loaded, plain).solve(nothing_known(1), raters, given([*enumerate(values)]))
    features_NK = np.column_stack([raters.factors_CF, np.ones(7)]).astype(np.float64)
    average_K = torch.cat([model.item_factors[-1], model.item_bias[-1:]]).double().numpy()
    table_IK = torch.cat([model.item_factors, model.item_bias[:, None]], 1).double().numpy()
    away_IK = table_IK[:-1][loaded.ratings_I > 0] - average_K
    covariance_KK = away_IK.T @ away_IK / len(away_IK)
    left_N = np.array(values) - float(model.mean) - raters.bias_C - features_NK @ average_K
    noise = float(loaded.prior.noise)
    precision_KK = np.linalg.inv(covariance_KK) + features_NK.T @ features_NK / noise
    expected_K = average_K + np.linalg.solve(precision_KK, features_NK.T @ left_N / noise)
    assert np.append(rows.factors_NF[0], rows.bias_N[0]) == pytest.approx(expected_K, abs=1e-4)


def test_a_row_of_the_head_is_between_its_targets_and_the_prior(loaded: Checkpoint) -> None:
    """In the directions in which the fitted rows differ it minimises the sum of squares and the distance from them."""
    plain, head, rated_I = nothing_known(len(loaded.items)), loaded.relevance, loaded.ratings_I > 0
    assert head is not None
    solver = solver_of(loaded, plain)
    assert solver.head is not None
    users, ratings = np.arange(9), np.array([5.0, 1, 4, 4, 2, 3, 5, 5, 1])
    row_G = solver.solve(nothing_known(1), raters_of(loaded, users), given([*enumerate(ratings)])).head_NG[0]
    x_UG, y_IG = head.user_factors[:-1].double().numpy(), head.item_factors[:-1][rated_I].double().numpy()
    average_G, rule = y_IG.mean(0), head.rule
    covariance_GG = (y_IG - average_G).T @ (y_IG - average_G) / len(y_IG)
    targets_M = solver.head.score * np.maximum(0, 1 + rule.slope * (ratings - rule.mean) / rule.deviation)
    noise = solver.head.root_GG @ solver.head.root_GG.T
    scale = float((noise * covariance_GG).sum() / (covariance_GG**2).sum())  # of the prior, 1 / noise
    heard_of = rule.missing_weight * min(1.0, len(users) * len(y_IG) / loaded.ratings_I.sum())
    cells_GG = heard_of * x_UG.T @ x_UG + (1 - heard_of) * x_UG[users].T @ x_UG[users]
    wanted_G = np.linalg.solve(
        cells_GG + np.linalg.inv(scale * covariance_GG), x_UG[users].T @ targets_M - cells_GG @ average_G
    )
    assert row_G == pytest.approx(average_G + wanted_G, abs=1e-4)


@pytest.mark.parametrize("items", [1, 2, 6])
def test_with_fewer_items_than_factors_a_new_row_stays_among_the_fitted_ones(items: int) -> None:
    """Nothing is known of directions in which they do not differ: a step there would drown every score."""
    rng = np.random.default_rng(items)
    factors, users = 16, 30
    cells_N = np.arange(users * items, dtype=np.int32)
    ratings_N = rng.integers(1, 6, len(cells_N)).astype(np.float32)
    seen = TrainingRatings.from_ratings(cells_N // items, cells_N % items, ratings_N, users)
    sizes = ((users + 1, 3), (items + 1, 3), (users + 1,), (items + 1,))
    tables = (torch.from_numpy(rng.normal(size=size).astype(np.float32)) for size in sizes)
    model, head = MatrixFactorization(torch.tensor(3.0), *tables), random_head(items, users, items, factors)
    prior = FoldInPrior(torch.tensor(1.0), torch.eye(4), torch.eye(4))
    solver = NewItemSolver.learn(model, prior, head, nothing_known(items), seen)
    raters = Raters(*(table[:3].numpy() for table in (model.user_factors, model.user_bias, head.user_factors)))
    row_G = solver.solve(nothing_known(1), raters, given([(0, 5.0), (1, 5.0), (2, 1.0)])).head_NG[0]
    y_IG, x_UG = head.item_factors[:-1].double().numpy(), head.user_factors.double().numpy()
    away_G, axes_IG = row_G - y_IG.mean(0), y_IG - y_IG.mean(0)
    within_G = np.linalg.lstsq(axes_IG.T, away_G, rcond=1e-9)[0] @ axes_IG
    assert away_G == pytest.approx(within_G, abs=1e-5)
    assert np.abs(x_UG @ row_G).max() < 3 * np.abs(x_UG @ y_IG.T).max()


def test_an_item_without_ratings_or_attributes_has_the_row_of_an_unknown_one(loaded: Checkpoint) -> None:
    rows = solver_of(loaded).solve(nothing_known(2), raters_of(loaded, np.arange(0)), given([], []))
    average_G = loaded.relevance.item_factors[:-1][torch.from_numpy(loaded.ratings_I > 0)].mean(0)
    for number in range(2):
        assert rows.factors_NF[number] == pytest.approx(loaded.model.item_factors[-1].numpy(), abs=1e-6)
        assert rows.bias_N[number] == pytest.approx(float(loaded.model.item_bias[-1]), abs=1e-6)
        assert rows.head_NG[number] == pytest.approx(average_G.numpy(), abs=1e-5)
    assert rows.left_N.tolist() == [1.0, 1.0]


def test_many_items_at_once_get_the_rows_that_each_gets_alone(loaded: Checkpoint) -> None:
    solver, raters = solver_of(loaded), raters_of(loaded, np.arange(40))
    rng = np.random.default_rng(0)
    counts = [0, 1, 3, 40]
    ratings = [[(int(user), float(rng.integers(1, 6))) for user in rng.permutation(40)[:count]] for count in counts]
    described = catalogue({"genres": ("Drama",)}, {}, {"year": 1999}, {"genres": ("Film-Noir", "Drama")})
    together = solver.solve(described, raters, given(*ratings))
    for number, of_item in enumerate(ratings):
        alone = solver.solve(described.slice(number, 1), raters, given(of_item))
        for many, one in zip(together, alone, strict=True):
            assert many[number] == pytest.approx(one[0], abs=1e-5)


def test_each_rating_leaves_less_of_the_variance(loaded: Checkpoint) -> None:
    raters = raters_of(loaded, np.arange(30))
    counts = [0, 1, 2, 5, 30]
    ratings = given(*([(user, 4.0) for user in range(count)] for count in counts))
    left_N = solver_of(loaded).solve(nothing_known(len(counts)), raters, ratings).left_N
    assert left_N[0] == 1.0
    assert (np.diff(left_N) < 0).all()
    assert (left_N >= 0).all()


def test_the_effects_of_attributes_are_found() -> None:
    rng = np.random.default_rng(1)
    effects_DK = rng.normal(size=(3, 4))
    chosen_SD = rng.integers(0, 2, (600, 3))
    table_IK = 1.0 + chosen_SD @ effects_DK + rng.normal(0, 0.1, (600, 4))
    known = catalogue(
        *({"genres": tuple(name for name, has in zip(GENRES, row, strict=True) if has)} for row in chosen_SD.tolist())
    )
    prior = AttributePrior.learn(known, np.full(600, 100), torch.from_numpy(table_IK), np.ones(4))
    asked = catalogue({"genres": ("Western",)}, {"genres": GENRES}, {"genres": ("Unheard of",)}, {})
    expected_NK = np.array([1 + effects_DK[2], 1 + effects_DK.sum(0), np.ones(4), np.ones(4)])
    assert prior.expected(prior.features(asked)) == pytest.approx(expected_NK, abs=0.08)
    assert np.diag(prior.covariance_KK) == pytest.approx(np.full(4, 0.01), rel=0.2)


def test_years_of_one_decade_are_one_attribute_and_labels_are_as_genres() -> None:
    known = catalogue(*[{"year": year, "labels": ("a",)} for year in (1990, 1994, 1999, 2000, 2001, 2009)])
    prior = AttributePrior.learn(known, np.ones(6), torch.zeros(6, 2, dtype=torch.float64), np.zeros(2))
    assert set(prior.names) == {("labels", "a"), ("year", 199), ("year", 200)}
    features_ND = prior.features(catalogue({"year": 1991}, {"year": 1980}, {"labels": ("a", "b")}))
    assert features_ND.sum(1).tolist() == [1, 0, 1]


@pytest.mark.parametrize("items", [0, 1])
def test_a_model_of_hardly_any_items_lets_nothing_be_expected(items: int) -> None:
    model = MatrixFactorization(
        torch.tensor(3.0), torch.ones(3, 2), torch.zeros(items + 1, 2), torch.zeros(3), torch.zeros(items + 1)
    )
    prior = FoldInPrior(torch.tensor(0.5), torch.zeros(3, 3), torch.zeros(3, 3))
    learned = AttributePrior.learn(
        nothing_known(items), np.ones(items, np.int64), torch.zeros(items + 1, 3), np.zeros(3)
    )
    raters = Raters(np.ones((1, 2), np.float32), np.zeros(1, np.float32), None)
    rows, left = RatingRows(model, prior, learned).solve(np.zeros((1, 0)), raters, given([(0, 5.0)]))
    assert np.isfinite(rows).all()
    assert rows == pytest.approx(0)
    assert left.tolist() == [1.0]


def test_more_items_change_nothing_of_the_fitted_ones(loaded: Checkpoint) -> None:
    fitted, count = len(loaded.items), 3
    rows = NewItemRows(
        np.full((count, loaded.model.factors), 0.5, np.float32),
        np.arange(count, dtype=np.float32),
        np.full(count, 0.5, np.float32),
        np.full((count, loaded.relevance.factors), 0.25, np.float32),
    )
    more = extended(loaded, ["new", "newer", "newest"], rows)
    users_B, items_B = torch.arange(fitted) % len(loaded.users), torch.arange(fitted)
    assert torch.equal(more.model(users_B, items_B), loaded.model(users_B, items_B))
    unknown = torch.tensor([0]), torch.tensor([fitted + count])
    assert torch.equal(more.model(*unknown), loaded.model(unknown[0], torch.tensor([fitted])))
    assert more.items.rows(["new", "newest", "nothing", *loaded.items.lookup(np.arange(3))]).tolist() == [
        fitted,
        fitted + 2,
        fitted + count,
        0,
        1,
        2,
    ]
    assert more.catalogue.slice(0, fitted).equals(loaded.catalogue)
    assert more.catalogue.slice(fitted)["ratings"].to_pylist() == [0] * count
    assert torch.equal(more.relevance.summed_factors[fitted:-1], torch.zeros(count, loaded.relevance.factors))
