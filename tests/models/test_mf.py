"""The served form, against predictions computed by hand."""

from __future__ import annotations

import pytest
import torch

from models.mf import MatrixFactorization, with_average_row
from tests.support.checkpoints import ITEMS, USERS, small_model

USER_COUNTS, ITEM_COUNTS = torch.tensor([3, 1]), torch.tensor([2, 1, 1])
BY_HAND = MatrixFactorization(
    torch.tensor(3.0),
    with_average_row(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), USER_COUNTS),
    with_average_row(torch.tensor([[0.5, 0.5], [2.0, 0.0], [0.0, 1.0]]), ITEM_COUNTS),
    with_average_row(torch.tensor([0.1, -0.3]), USER_COUNTS),
    with_average_row(torch.tensor([0.2, 0.0, -0.2]), ITEM_COUNTS),
)


def test_a_prediction_is_mean_plus_biases_plus_dot_product() -> None:
    predicted = BY_HAND(torch.tensor([0, 1]), torch.tensor([0, 2]))
    torch.testing.assert_close(predicted, torch.tensor([3 + 0.1 + 0.2 + 1.5, 3 - 0.3 - 0.2 - 1.0]))


def test_the_row_of_an_unknown_id_is_the_average_weighted_by_ratings() -> None:
    torch.testing.assert_close(BY_HAND.user_factors[-1], torch.tensor([0.75, 1.25]))
    torch.testing.assert_close(BY_HAND.user_bias[-1], torch.tensor(0.0))
    torch.testing.assert_close(BY_HAND.item_factors[-1], torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(BY_HAND.item_bias[-1], torch.tensor(0.05))


def test_the_average_of_a_table_without_any_rating_is_zero() -> None:
    assert with_average_row(torch.ones(2, 1), torch.zeros(2, dtype=torch.int64))[-1] == 0


def test_a_batch_equals_its_pairs_one_by_one() -> None:
    model, users, items = small_model(), torch.tensor([0, 3, 1]), torch.tensor([4, 2, 2])
    one_by_one = [float(model(users[i : i + 1], items[i : i + 1])) for i in range(3)]
    assert model(users, items).tolist() == one_by_one


def test_sizes_do_not_count_the_rows_for_unknown_ids() -> None:
    assert (BY_HAND.users, BY_HAND.items, BY_HAND.factors) == (2, 3, 2)


def test_without_variances_none_is_given() -> None:
    assert BY_HAND.variance(torch.tensor([0]), torch.tensor([0])) is None
    assert set(BY_HAND.tensors()) == {"mean", "user_factors", "item_factors", "user_bias", "item_bias"}


def test_the_variance_of_a_rating_is_noise_plus_what_is_not_known_of_both_rows() -> None:
    known = {"noise_variance": torch.tensor(0.5), "user_variance": torch.arange(USERS + 1.0)}
    model = small_model(**known, item_variance=torch.full((ITEMS + 1,), 0.25))
    variance = model.variance(torch.tensor([0, 2]), torch.tensor([1, 1]))
    assert variance is not None
    assert variance.tolist() == [0.75, 2.75]


def test_intervals_are_as_wide_on_each_side_as_the_model_says() -> None:
    known = {"noise_variance": torch.tensor(3.5), "user_variance": torch.zeros(USERS + 1)}
    known |= {"item_variance": torch.full((ITEMS + 1,), 0.5), "interval_deviations": torch.tensor([2.0, 1.0])}
    model, pair = small_model(**known), (torch.tensor([0]), torch.tensor([1]))
    for level, share in ((0.9, 1), (0.5, 0.6745 / 1.6449)):
        low, high = model.intervals(*pair, level)
        assert float(model(*pair) - low) == pytest.approx(2 * 2 * share, rel=1e-3)
        assert float(high - model(*pair)) == pytest.approx(2 * share, rel=1e-3)


def test_intervals_without_deviations_are_those_of_a_normal_distribution() -> None:
    known = {"noise_variance": torch.tensor(1.0), "user_variance": torch.zeros(USERS + 1)}
    model, pair = small_model(**known, item_variance=torch.zeros(ITEMS + 1)), (torch.tensor([0]), torch.tensor([1]))
    low, high = model.intervals(*pair)
    assert (float(model(*pair) - low), float(high - model(*pair))) == pytest.approx((1.6449, 1.6449), rel=1e-3)
    assert small_model().intervals(*pair) is None


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_shapes_on_the_meta_device(batch: int) -> None:
    model = small_model().to("meta")
    rows = torch.zeros(batch, dtype=torch.int64, device="meta")
    assert model(rows, rows).shape == (batch,)
    assert model.device.type == "meta"
