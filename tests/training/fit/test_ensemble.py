"""What the samples of chains predict, and how many sweeps there are."""

import pytest
import torch

from tests.support.data import planted_set
from training.fit.ensemble import Ensemble, Variant, fewer
from training.fit.kernels.gibbs import SHARE_POWER
from training.fit.kernels.posterior import predicted


def test_a_pair_is_predicted_with_the_effect_of_the_user_on_an_item_of_one_more_rating() -> None:
    data = planted_set(users=30, items=20, ratings=200)
    ensemble = Ensemble(data, [Variant(implicit=True, user_freedom=0, item_freedom=0)], factors=7, seed=1)
    ensemble.sweep(0, lambda _: None)
    (sample,) = ensemble.samples(1)
    user, item = sample.chain.user, sample.chain.item
    counts_I = data.item_totals()
    share = ((counts_I[5] + 1) * counts_I.double().mean()) ** -SHARE_POWER

    tables = sample.tables()
    both = predicted(*tables, torch.tensor([3, 30]), torch.tensor([5, 5]))

    row_K = item.table_RK[5] + share * user.effect_RK[3]
    expected = user.table_RK[3, :-1] @ row_K[:-1] + user.table_RK[3, -1] + row_K[-1]
    assert float(both[0]) == pytest.approx(float(expected), abs=1e-5)
    unknown_K = user.unknown_K
    assert float(both[1]) == pytest.approx(
        float(unknown_K[:-1] @ item.table_RK[5, :-1] + unknown_K[-1] + item.table_RK[5, -1]), abs=1e-5
    )


def test_many_ratings_have_fewer_sweeps_but_never_less_than_the_least_share() -> None:
    assert [fewer(150, times, 0.25) for times in (0, 1, 2, 50)] == [150, 150, 75, 38]
