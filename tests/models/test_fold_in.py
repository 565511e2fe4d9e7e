"""Rows that follow from ratings alone, against the trainers' own row solves and against the textbook formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.fold_in import LEAST_NOISE, FoldIn, FoldInPrior, RowSolver
from models.mf import MatrixFactorization
from models.registry.directory import load, publish
from models.relevance import HeadSolver, RelevanceHead
from models.training_ratings import TrainingRatings
from tests.support.als_reference import solve_rows
from tests.support.checkpoints import RULE, small_draft, small_head, small_model
from tests.support.gibbs_reference import ReferenceRows
from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.gibbs import RowState
from training.fit.kernels.grouping import Triplets

C, F, MEAN, NOISE = 60, 7, 3.5, 0.8
K = F + 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def row_solver(
    factors_CF: torch.Tensor,
    bias_C: torch.Tensor,
    mean: float,
    prior_mean_K: torch.Tensor,
    prior_covariance_KK: torch.Tensor,
    noise: float,
    counts_C: npt.NDArray[np.int64] | None = None,
) -> RowSolver:
    """A solver against given items, of users around a given row."""
    items_IF, bias_I = (torch.cat([table, table.new_zeros(1, *table.shape[1:])]) for table in (factors_CF, bias_C))
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (mean, noise)]
    model = MatrixFactorization(scalars[0], prior_mean_K[None, :-1], items_IF, prior_mean_K[-1:], bias_I)
    return RowSolver(model, FoldInPrior(scalars[1], prior_covariance_KK, torch.zeros(0)), counts_C)


@pytest.fixture
def solver(rng: np.random.Generator) -> RowSolver:
    root_KK = normal(rng, K, K) / K**0.5
    counts_C = rng.integers(1, 100, C)
    return row_solver(normal(rng, C, F), normal(rng, C), MEAN, normal(rng, K), root_KK @ root_KK.T, NOISE, counts_C)


def some_ratings(rng: np.random.Generator, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    return rng.permutation(C)[:count], rng.uniform(1, 5, count)


def by_the_formula(
    solver: RowSolver, columns_N: npt.NDArray[np.int64], ratings_N: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and covariance of x given ratings, by inverting S itself."""
    root = solver.tables.root_KK.numpy()
    inverse_KK = np.linalg.inv(root @ root.T)
    a_NK = np.c_[solver.tables.factors_CF.numpy()[columns_N].astype(float), np.ones(len(columns_N))]
    expected_N = MEAN + solver.tables.bias_C.numpy()[columns_N] + a_NK @ solver.host.prior_K
    covariance_KK = np.linalg.inv(inverse_KK + a_NK.T @ a_NK / NOISE)
    return solver.host.prior_K + covariance_KK @ a_NK.T @ (ratings_N - expected_N) / NOISE, covariance_KK


@pytest.mark.parametrize("count", [1, 2, K - 1, K, K + 1, 3 * K, C])
def test_a_row_is_the_posterior_mean_and_its_variance_is_that_of_ratings(
    rng: np.random.Generator, solver: RowSolver, count: int
) -> None:
    columns_N, ratings_N = some_ratings(rng, count)
    row = solver.solve(columns_N, ratings_N)
    mean_K, covariance_KK = by_the_formula(solver, columns_N, ratings_N)
    np.testing.assert_allclose(np.append(row.factors, row.bias), mean_K, rtol=1e-5, atol=1e-5)
    moments_KK = (
        solver.tables.root_KK.T.inverse().numpy()
        @ np.diag(solver.host.spread_K)
        @ solver.tables.root_KK.inverse().numpy()
    )
    assert row.variance == pytest.approx(np.trace(covariance_KK @ moments_KK), rel=1e-5)


def test_without_ratings_a_row_is_the_prior_mean_and_nothing_is_learned(solver: RowSolver) -> None:
    row = solver.solve(np.empty(0, np.int64), np.empty(0))
    assert [*row.factors, row.bias] == solver.tables.prior_K.float().tolist()
    assert row.variance == solver.prior_variance


def test_every_rating_lowers_the_variance(rng: np.random.Generator, solver: RowSolver) -> None:
    columns_N, ratings_N = some_ratings(rng, C)
    variances = [solver.solve(columns_N[:count], ratings_N[:count]).variance for count in range(C)]
    assert variances == sorted(variances, reverse=True)
    assert variances[-1] < variances[0] / 4


def test_many_rows_at_once_are_each_row_by_itself(rng: np.random.Generator, solver: RowSolver) -> None:
    counts = [0, 1, 20, 0, K, 3, C, K + 1, 5, 40, 2]
    lists = [some_ratings(rng, count) for count in counts]
    offsets = torch.from_numpy(np.append(0, np.cumsum(counts)))
    columns_M, ratings_M = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*lists, strict=True))
    together = solver.solve_many(offsets, columns_M, ratings_M)
    for number, (columns_N, ratings_N) in enumerate(lists):
        alone = solver.solve(columns_N, ratings_N)
        np.testing.assert_allclose(together.factors_RF[number], alone.factors, rtol=1e-5, atol=1e-6)
        assert float(together.bias_R[number]) == pytest.approx(float(alone.bias), rel=1e-5, abs=1e-6)
        assert float(together.variance_R[number]) == pytest.approx(alone.variance, rel=1e-5, abs=1e-6)


def test_no_rows_at_all_are_no_rows(solver: RowSolver) -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert solver.solve_many(torch.zeros(1, dtype=torch.int64), none, none.double()).factors_RF.shape == (0, F)


@pytest.mark.parametrize("count", [1, 5, K, 50])
def test_contributions_add_up_to_the_prediction(rng: np.random.Generator, solver: RowSolver, count: int) -> None:
    columns_N, ratings_N = some_ratings(rng, count)
    row = solver.solve(columns_N, ratings_N)
    for target in (0, 17):
        predicted = (
            MEAN + float(solver.tables.bias_C[target] + row.bias) + float(solver.host.factors_CF[target] @ row.factors)
        )
        sums = solver.contributions(columns_N, ratings_N, target)
        assert sums.baseline + sums.parts_N.sum() == pytest.approx(predicted, abs=1e-5)
        assert len(sums.parts_N) == count


def test_a_rating_that_is_as_expected_contributes_nothing(solver: RowSolver) -> None:
    features_K = np.append(solver.tables.factors_CF[3].numpy(), 1)
    expected = MEAN + float(solver.tables.bias_C[3]) + features_K @ solver.host.prior_K
    assert solver.contributions(np.array([3]), np.array([expected]), 5).parts_N == pytest.approx([0], abs=1e-6)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_with_the_prior_of_als_a_row_is_the_one_that_als_solves(rng: np.random.Generator, count: int) -> None:
    """Its penalty is a prior around zero: ridge on the factors, another one on the bias, noise 1."""
    columns_N, values_N = some_ratings(rng, count)
    factors_CF, bias_C, ridge, bias_ridge = normal(rng, C, F), normal(rng, C), 1.1 * count**0.5, 3.0
    other_CK = torch.cat([factors_CF, bias_C[:, None]], dim=1)
    wanted_1K, _ = solve_rows(
        torch.zeros(count, dtype=torch.int64),
        torch.from_numpy(columns_N),
        torch.from_numpy(values_N),
        HalfStep(other_CK, torch.tensor([ridge]), bias_ridge),
    )
    covariance = torch.diag(torch.tensor([1 / ridge] * F + [1 / bias_ridge], dtype=torch.float64))
    row = row_solver(factors_CF, bias_C, 0.0, torch.zeros(K), covariance, 1.0).solve(columns_N, values_N)
    np.testing.assert_allclose(np.append(row.factors, row.bias), wanted_1K[0], atol=1e-5)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_with_the_prior_of_the_sampler_a_row_is_the_mean_of_what_it_draws(rng: np.random.Generator, count: int) -> None:
    columns_N, values_N = some_ratings(rng, count)
    other_CK, prior_K, precision_K = normal(rng, C, K), normal(rng, K), torch.from_numpy(rng.uniform(0.5, 4, K)).float()
    precision = 1.7
    ratings = (torch.zeros(count, dtype=torch.int64), torch.from_numpy(columns_N), torch.from_numpy(values_N).float())
    rows = ReferenceRows(Triplets(*ratings, 1, C))
    gram_1KK, rhs_1K = rows.gram(other_CK, torch.ones(C))
    state = RowState(gram_1KK, rhs_1K, torch.tensor([precision]), prior_K[None], precision_K)
    drawn_1K = rows.draw(state, torch.zeros(1, K))
    solver = row_solver(other_CK[:, :-1], other_CK[:, -1], 0.0, prior_K, torch.diag(1 / precision_K), 1 / precision)
    row = solver.solve(columns_N, values_N.astype(np.float32))
    np.testing.assert_allclose(np.append(row.factors, row.bias), drawn_1K[0], atol=1e-5)


def test_a_prior_without_any_variance_leaves_every_row_at_its_mean(rng: np.random.Generator) -> None:
    solver = row_solver(normal(rng, C, F), normal(rng, C), MEAN, normal(rng, K), torch.zeros(K, K), NOISE)
    row = solver.solve(*some_ratings(rng, 10))
    assert [*row.factors, row.bias] == solver.tables.prior_K.float().tolist()
    assert row.variance == 0


# The relevance head


def head_solver(items_IG: torch.Tensor, unknown_G: torch.Tensor, summed_IG: torch.Tensor, solved: int) -> HeadSolver:
    """Of a head whose first factors are solved."""
    rule = RULE.model_copy(update={"solved_factors": solved})
    tables = (torch.cat([table_IG, unknown_G[None]]) for table_IG in (items_IG, summed_IG))
    return HeadSolver(RelevanceHead(unknown_G[None], *tables, rule))


def target(ratings: Any) -> Any:
    return np.maximum(1 + RULE.slope * (ratings - RULE.mean) / RULE.deviation, 0)


@pytest.mark.parametrize("count", [1, 3, 4, 30])
def test_a_solved_row_of_the_head_minimises_the_error_over_all_items(rng: np.random.Generator, count: int) -> None:
    items_IG, G = normal(rng, C, 4), 4
    rated_N, ratings_N = some_ratings(rng, count)
    x_G = head_solver(items_IG, torch.zeros(G), torch.zeros(C, G), G).solve(rated_N, ratings_N)
    weights_I, targets_I = np.full(C, RULE.missing_weight), np.zeros(C)
    weights_I[rated_N] = 1
    targets_I[rated_N] = target(ratings_N)
    y = items_IG.numpy().astype(float)
    ridge = RULE.regularisation * weights_I.sum() ** RULE.exponent
    wanted_G = np.linalg.solve((y * weights_I[:, None]).T @ y + ridge * np.eye(G), y.T @ (weights_I * targets_I))
    np.testing.assert_allclose(x_G, wanted_G, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_a_summed_row_of_the_head_is_that_of_each_rated_item_times_its_target(
    rng: np.random.Generator, count: int
) -> None:
    rated_N, ratings_N = some_ratings(rng, count)
    summed_IG = normal(rng, C, 4)
    x_G = head_solver(normal(rng, C, 4), torch.zeros(4), summed_IG, 0).solve(rated_N, ratings_N)
    np.testing.assert_allclose(x_G, target(ratings_N) @ summed_IG.numpy()[rated_N], rtol=1e-5)


def test_without_ratings_the_head_has_the_row_of_unknown_users(rng: np.random.Generator) -> None:
    unknown_G = normal(rng, 4)
    none, solver = np.empty(0, np.int64), head_solver(normal(rng, C, 4), unknown_G, normal(rng, C, 4), 2)
    assert solver.solve(none, none.astype(float)).tolist() == unknown_G.tolist()


# Of a checkpoint


def test_what_a_model_says_of_rows_it_has_not_seen_is_learned_from_those_it_has() -> None:
    """User 1 has no ratings: its row says nothing of users."""
    model, seen = small_model(), small_draft().seen
    priors = FoldInPrior.learn(model, seen)
    table = torch.cat([model.user_factors, model.user_bias[:, None]], 1).double()
    away = table[[0, 2]] - table[-1]
    torch.testing.assert_close(priors.user_covariance_KK, (away.T @ away / 2).float())
    users_N, items_N = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0])
    error_N = model(users_N, items_N) - torch.tensor([4.5, 1.0, 3.0])
    torch.testing.assert_close(priors.noise, error_N.square().mean())


def test_a_model_without_errors_keeps_a_little_noise() -> None:
    model = small_model(user_factors=torch.zeros(4, 2), user_bias=torch.zeros(4), item_bias=torch.zeros(5))
    seen = small_draft().seen
    exact = TrainingRatings(seen.offsets, seen.items_N, torch.full((3,), float(model.mean)))
    assert float(FoldInPrior.learn(model, exact).noise) == pytest.approx(LEAST_NOISE)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_users_of_a_published_model_are_folded_in(tmp_path: Path, device: str) -> None:
    publish(tmp_path, small_draft(relevance=small_head()))
    loaded = load(tmp_path, device=device)
    folding = FoldIn.of(loaded.model, loaded.prior, loaded.relevance, loaded.ratings_I)
    nothing = (np.empty(0, np.int64), np.empty(0))
    assert folding.users.solve(*nothing).factors.tolist() == loaded.model.user_factors[-1].tolist()
    liked = folding.users.solve(np.array([1, 2]), np.array([5.0, 5.0]))
    disliked = folding.users.solve(np.array([1, 2]), np.array([1.0, 1.0]))
    tables = loaded.model.item_factors[1].cpu().numpy()
    assert tables @ liked.factors + liked.bias > tables @ disliked.factors + disliked.bias
    assert folding.head is not None
    assert folding.head.solve(np.array([1]), np.array([5.0])).shape == (3,)


def test_a_model_without_a_head_has_none_to_fold_into(tmp_path: Path) -> None:
    publish(tmp_path, small_draft())
    loaded = load(tmp_path)
    assert FoldIn.of(loaded.model, loaded.prior, loaded.relevance, loaded.ratings_I).head is None


def test_the_priors_travel_with_the_checkpoint(tmp_path: Path) -> None:
    draft = small_draft()
    publish(tmp_path, draft)
    priors, wanted = load(tmp_path).prior, FoldInPrior.learn(draft.model, draft.seen)
    for name, table in wanted.tensors().items():
        torch.testing.assert_close(priors.tensors()[name], table)
