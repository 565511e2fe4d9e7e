"""Weights of models in their mean: what is learned from many ratings, and what is not from few."""

import numpy as np
import pytest

from training.fit.stack import NEGLIGIBLE, weights


def products(deviations: list[float], ratings: int, shared: float = 0.0) -> np.ndarray:
    """Of the errors of models that err independently, but for a part that they share."""
    return ratings * (np.diag(np.square(deviations)) + shared**2)


def test_independent_models_count_as_the_inverse_of_their_squared_errors() -> None:
    weight_M = weights(products([1.0, 1.0, 2**0.5], 10**9), noise=1.0)
    assert weight_M == pytest.approx([0.4, 0.4, 0.2], abs=1e-4)


def test_few_ratings_leave_equal_weights() -> None:
    assert weights(products([0.5, 1.0], 1), noise=1.0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert weights(np.zeros((3, 3)), noise=1.0) == pytest.approx([1 / 3] * 3)


def test_a_model_that_only_adds_error_is_left_out_and_so_is_one_that_hardly_counts() -> None:
    assert weights(products([0.1, 3.0, 0.1], 10**6, shared=1.0), noise=1.0) == pytest.approx([0.5, 0, 0.5], abs=1e-3)


def test_weights_are_never_negative_or_negligible_and_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors_MN = rng.normal(size=(5, 1)) * rng.normal(size=200) + rng.normal(size=(5, 200))
        weight_M = weights(errors_MN @ errors_MN.T, noise=1.0)
        assert weight_M.sum() == pytest.approx(1)
        assert all(weight == 0 or weight >= NEGLIGIBLE for weight in weight_M)


def test_the_mean_is_no_worse_than_any_model_and_than_other_weights() -> None:
    rng = np.random.default_rng(1)
    errors_MN = rng.normal(size=4000) + rng.normal(size=(3, 1)) * rng.normal(size=(3, 4000))
    product_MM = errors_MN @ errors_MN.T
    found = weights(product_MM, noise=1e-3)
    error = found @ product_MM @ found
    assert error <= product_MM.diagonal().min() + 1e-6
    for other_M in rng.dirichlet(np.ones(3), 200):
        if other_M.min() >= NEGLIGIBLE:
            assert error <= other_M @ product_MM @ other_M + 1e-3
