import numpy as np
import pytest

from training.data.synthetic import planted


def test_pairs_are_distinct_and_in_range():
    users_N, items_N, ratings_N = planted(300, 200, 20_000, np.random.default_rng(0))
    assert len(np.unique(users_N.astype(np.int64) * 200 + items_N)) == len(ratings_N) == 20_000
    assert (users_N.min(), users_N.max(), items_N.min(), items_N.max()) == (0, 299, 0, 199)


def test_ratings_are_halves_from_one_to_five():
    ratings_N = planted(300, 200, 20_000, np.random.default_rng(0))[2]
    assert set(np.unique(ratings_N)) == set(np.arange(1, 5.5, 0.5))


def test_popularity_follows_the_weights():
    users_N, items_N, _ = planted(2_000, 1_000, 20_000, np.random.default_rng(0))
    for indices_N, rows, offset, exponent in ((users_N, 2_000, 20, 0.9), (items_N, 1_000, 50, 0.7)):
        weights = (np.arange(rows) + offset) ** -exponent
        counts = np.sort(np.bincount(indices_N, minlength=rows))[::-1]
        assert counts[:100].sum() / 20_000 == pytest.approx(weights[:100].sum() / weights.sum(), rel=0.1)


def test_same_seed_same_ratings_and_another_seed_others():
    first, again, other = (planted(300, 200, 5_000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_more_pairs_than_half_the_cells_are_refused():
    with pytest.raises(ValueError, match="at most half"):
        planted(10, 10, 51, np.random.default_rng(0))
