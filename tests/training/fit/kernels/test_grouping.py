import numpy as np
import pytest
import torch

from training.fit.kernels.grouping import Triplets, balanced_ranges, group

ROWS = 50


@pytest.fixture
def ratings():
    rng = np.random.default_rng(0)
    rows_N, columns_N = (torch.from_numpy(rng.integers(0, high, 3_000, dtype=np.int32)) for high in (ROWS, 70))
    return Triplets(rows_N, columns_N, torch.from_numpy(rng.standard_normal(3_000, dtype=np.float32)), ROWS, 70)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_grouping_is_a_stable_sort_by_row(ratings, threads):
    rows_N, columns_N, ratings_N = (column_N.numpy() for column_N in ratings[:3])
    grouped = group(ratings, threads)
    order_N = np.argsort(rows_N, kind="stable")
    assert np.array_equal(grouped.columns_N, columns_N[order_N])
    assert np.array_equal(grouped.values_N, ratings_N[order_N])
    assert np.array_equal(grouped.counts_R, np.bincount(rows_N, minlength=ROWS))


def test_a_row_may_be_empty():
    one = torch.ones(1, dtype=torch.int32)
    assert group(Triplets(one, one, torch.ones(1), 3, 2)).starts_R.tolist() == [0, 0, 1, 1]


def test_ranges_cover_all_rows_once_with_about_equal_work():
    starts_R = np.concatenate([[0], np.cumsum(np.random.default_rng(0).integers(1, 100, 1_000))])
    ranges = balanced_ranges(starts_R, 10, 8)
    assert [row for first, last in ranges for row in range(first, last)] == list(range(1_000))
    work = [starts_R[last] - starts_R[first] + 10 * (last - first) for first, last in ranges]
    assert max(work) < 1.05 * min(work)


def test_a_giant_row_is_alone_in_its_range():
    starts_R = np.cumsum([0, *[1] * 100, 10_000, *[1] * 100])
    ranges = balanced_ranges(starts_R, 0, 4)
    assert max(last - first for first, last in ranges if first <= 100 < last) <= 101
    assert ranges[-1][1] == 201
