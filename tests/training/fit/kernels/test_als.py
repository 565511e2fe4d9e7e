"""The kernels for CPU and CUDA against the float64 reference; the CUDA one runs wherever torch does."""

import pytest
import torch

from tests.support.als_reference import solve_rows
from training.fit.kernels import buckets
from training.fit.kernels.als import TorchRows, group_rows
from training.fit.kernels.als_cpu import SEGMENT, CpuRows
from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.grouping import Triplets, group
from training.fit.kernels.tiles import padded_width

COLUMNS = 60
BIAS_RIDGE = 3.0
DEGREES = {
    "one rating": [1] * 5,
    "few": [1, 2, 3, 4, 5, 6, 7, 9, 12, 13],
    "many": [200, 63, 64, 65, 127, 128, 129, 1],
    "giant": [3, 2 * SEGMENT + 5, 1],
}


def cpu_rows(rows_N, columns_N, values_N, rows, width, threads=2):
    return CpuRows(group(Triplets(rows_N, columns_N, values_N, rows, COLUMNS)), threads=threads)


def torch_rows(rows_N, columns_N, values_N, rows, width):
    return TorchRows(Triplets(rows_N, columns_N, values_N, rows, COLUMNS), width)


def problem(degrees, width):
    generator = torch.Generator().manual_seed(0)
    rows_N = torch.repeat_interleave(torch.arange(len(degrees), dtype=torch.int32), torch.tensor(degrees))
    rows_N = rows_N[torch.randperm(len(rows_N), generator=generator)]
    columns_N = torch.randint(COLUMNS, (len(rows_N),), generator=generator, dtype=torch.int32)
    values_N = torch.randn(len(rows_N), generator=generator)
    other_CK = torch.randn(COLUMNS, width, generator=generator)
    ridge_R = torch.rand(len(degrees), generator=generator) + 0.5
    return (rows_N, columns_N, values_N), other_CK, ridge_R


@pytest.mark.parametrize("make_rows", [cpu_rows, torch_rows])
@pytest.mark.parametrize("degrees", DEGREES.values(), ids=DEGREES)
@pytest.mark.parametrize("width", [8, 16])
def test_rows_and_error_are_those_of_the_reference(make_rows, degrees, width):
    ratings, other_CK, ridge_R = problem(degrees, width)
    expected_RK, expected_error = solve_rows(*ratings, HalfStep(other_CK, ridge_R, BIAS_RIDGE))
    out_RK = torch.full((len(degrees), width), torch.nan)
    error = make_rows(*ratings, len(degrees), width).solve(HalfStep(other_CK, ridge_R, BIAS_RIDGE), out_RK)
    torch.testing.assert_close(out_RK.double(), expected_RK, rtol=2e-4, atol=2e-5)
    torch.testing.assert_close(error.double(), expected_error, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make_rows", [cpu_rows, torch_rows])
@pytest.mark.parametrize("bias_ridge", [BIAS_RIDGE, None])
@pytest.mark.parametrize("degrees", DEGREES.values(), ids=DEGREES)
def test_sums_over_parts_of_the_ratings_add_up_to_what_all_lead_to(make_rows, bias_ridge, degrees):
    ratings, other_CK, ridge_R = problem(degrees, 16)
    rows, step = len(degrees), HalfStep(other_CK, ridge_R, bias_ridge, torch.eye(16))
    expected_RK = torch.full((rows, 16), torch.nan)
    expected = make_rows(*ratings, rows, 16).solve(step, expected_RK)
    parts = [make_rows(*(column[part::2] for column in ratings), rows, 16) for part in (0, 1)]
    sums_RS = sum(part.sums(step) for part in parts)
    out_RK = torch.full((rows, 16), torch.nan)
    error = parts[0].solve_sums(sums_RS, step, out_RK)
    torch.testing.assert_close(out_RK, expected_RK, rtol=2e-4, atol=2e-5)
    torch.testing.assert_close(error.double(), expected.double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make_rows", [cpu_rows, torch_rows])
@pytest.mark.parametrize("degrees", DEGREES.values(), ids=DEGREES)
@pytest.mark.parametrize("width", [8, 16])
def test_rows_without_a_bias_and_with_a_prior_are_those_of_the_reference(make_rows, degrees, width):
    ratings, other_CK, ridge_R = problem(degrees, width)
    prior_KK = 0.3 * other_CK.T @ other_CK
    expected_RK, expected_error = solve_rows(*ratings, HalfStep(other_CK, ridge_R, prior_KK=prior_KK))
    out_RK = torch.full((len(degrees), width), torch.nan)
    error = make_rows(*ratings, len(degrees), width).solve(HalfStep(other_CK, ridge_R, prior_KK=prior_KK), out_RK)
    torch.testing.assert_close(out_RK.double(), expected_RK, rtol=2e-4, atol=2e-5)
    torch.testing.assert_close(error.double(), expected_error, rtol=1e-4, atol=1e-4)


def test_values_are_shifted_and_scaled_before_they_are_grouped():
    (rows_N, columns_N, values_N), other_CK, ridge_R = problem([20, 5], 8)
    expected_RK, out_RK = torch.empty(2, 8), torch.empty(2, 8)
    cpu_rows(rows_N, columns_N, (values_N - 0.5) * 4, 2, 8).solve(HalfStep(other_CK, ridge_R), expected_RK)
    rows = group_rows(Triplets(rows_N, columns_N, values_N, 2, COLUMNS), width=8, shift=0.5, scale=4)
    rows.solve(HalfStep(other_CK, ridge_R), out_RK)
    assert torch.equal(out_RK, expected_RK)


@pytest.mark.parametrize("make_rows", [cpu_rows, torch_rows])
def test_columns_of_zeros_stay_zeros(make_rows):
    ratings, other_CK, ridge_R = problem([20, 5], 16)
    other_CK[:, 4:-1] = 0
    out_RK = torch.full((2, 16), torch.nan)
    make_rows(*ratings, 2, 16).solve(HalfStep(other_CK, ridge_R, BIAS_RIDGE), out_RK)
    assert (out_RK[:, 4:-1] == 0).all()
    assert (out_RK[:, :4] != 0).all()


def test_the_reference_minimises_the_penalised_error():
    ratings, other_CK, ridge_R = problem([30, 4], 8)
    best_RK, error = solve_rows(*ratings, HalfStep(other_CK, ridge_R, BIAS_RIDGE))

    def cost(table_RK):
        rows_N, columns_N, values_N = ratings
        predicted_N = (table_RK[rows_N, :-1] * other_CK[columns_N, :-1]).sum(1)
        predicted_N += table_RK[rows_N, -1] + other_CK[columns_N, -1]
        penalty = (ridge_R[:, None] * table_RK[:, :-1] ** 2).sum() + BIAS_RIDGE * (table_RK[:, -1] ** 2).sum()
        squares = (values_N - predicted_N).square().sum()
        return squares, squares + penalty

    assert cost(best_RK)[0] == pytest.approx(float(error))
    best_RK.requires_grad_()
    gradient_RK = torch.autograd.grad(cost(best_RK)[1], best_RK)[0]
    assert gradient_RK.abs().max() < 1e-6


def test_the_reference_with_a_prior_minimises_its_error_too():
    (rows_N, columns_N, values_N), other_CK, ridge_R = problem([30, 4], 8)
    prior_KK = other_CK.T @ other_CK
    best_RK, error = solve_rows(rows_N, columns_N, values_N, HalfStep(other_CK, ridge_R, prior_KK=prior_KK))
    best_RK.requires_grad_()
    squares = (values_N - (best_RK[rows_N] * other_CK[columns_N]).sum(1)).square().sum()
    squares = squares + (best_RK @ prior_KK.double() * best_RK).sum()
    assert float(squares.detach()) == pytest.approx(float(error))
    cost = squares + (ridge_R[:, None] * best_RK.square()).sum()
    assert torch.autograd.grad(cost, best_RK)[0].abs().max() < 1e-5


def test_any_number_of_threads_gives_the_same_rows():
    ratings, other_CK, ridge_R = problem([*DEGREES["many"] * 10, 2 * SEGMENT], 8)
    tables = [torch.empty(81, 8) for _ in range(3)]
    for threads, table_RK in enumerate(tables, start=1):
        cpu_rows(*ratings, 81, 8, threads).solve(HalfStep(other_CK, ridge_R, BIAS_RIDGE), table_RK)
    assert torch.equal(tables[0], tables[1])
    assert torch.equal(tables[0], tables[2])


def test_small_batches_give_the_same_rows(monkeypatch):
    ratings, other_CK, ridge_R = problem(DEGREES["few"] * 5 + [3_000], 8)
    whole_RK, cut_RK = torch.empty(51, 8), torch.empty(51, 8)
    whole = torch_rows(*ratings, 51, 8)
    whole.solve(HalfStep(other_CK, ridge_R, BIAS_RIDGE), whole_RK)
    monkeypatch.setattr(buckets, "BATCH_ELEMENTS", 500)
    cut = torch_rows(*ratings, 51, 8)
    cut.solve(HalfStep(other_CK, ridge_R, BIAS_RIDGE), cut_RK)
    assert len(cut.buckets) > len(whole.buckets)
    torch.testing.assert_close(cut_RK, whole_RK)


def test_padding_is_at_most_half_of_a_bucket():
    ratings, _, _ = problem(list(range(1, 400)), 8)
    for bucket in torch_rows(*ratings, 399, 8).buckets:
        assert (bucket.columns_SL == COLUMNS).float().mean() < 0.5


@pytest.mark.parametrize(("factors", "width"), [(1, 8), (7, 8), (8, 16), (31, 32), (32, 40)])
def test_width_has_room_for_factors_and_bias(factors, width):
    assert padded_width(factors) == width


@pytest.mark.parametrize(("factors", "width"), [(1, 8), (8, 8), (9, 16), (64, 64)])
def test_width_without_a_bias_has_room_for_the_factors(factors, width):
    assert padded_width(factors, biased=False) == width
