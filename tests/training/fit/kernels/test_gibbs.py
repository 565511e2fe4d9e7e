"""The fast steps of the Gibbs sampler against the plain float64 ones, fed with the same random numbers."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.support.gibbs_reference import ReferenceRows, gaussian
from training.fit.kernels import gibbs_cpu, gibbs_torch
from training.fit.kernels.gibbs import EffectState, Rows, RowState
from training.fit.kernels.gibbs_cpu import CpuRows
from training.fit.kernels.gibbs_torch import TorchRows
from training.fit.kernels.grouping import Triplets

ROWS, COLUMNS, WIDTH = 23, 17, 16


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture
def ratings(generator: torch.Generator) -> Triplets:
    """About half of all pairs; row 3 has none, row 5 one, row 7 all of them."""
    rated_RC = torch.rand(ROWS, COLUMNS, generator=generator) < 0.5
    rated_RC[3], rated_RC[5, 1:], rated_RC[5, 0], rated_RC[7] = False, False, True, True
    rows_N, columns_N = rated_RC.nonzero().T.to(torch.int32)
    order_N = torch.randperm(len(rows_N), generator=generator)
    values_N = torch.randn(len(rows_N), generator=generator)
    return Triplets(rows_N[order_N], columns_N[order_N], values_N, ROWS, COLUMNS)


@pytest.fixture
def reference(ratings: Triplets) -> ReferenceRows:
    return ReferenceRows(ratings._replace(values_N=ratings.values_N.double()))


@pytest.fixture(params=["cpu", "cpu with rows cut and two threads", "torch"])
def fast(request: pytest.FixtureRequest, ratings: Triplets, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(gibbs_torch, "STEPS", 100)
    if request.param == "torch":
        return TorchRows(ratings, WIDTH)
    if request.param == "cpu":
        return CpuRows(ratings)
    monkeypatch.setattr(gibbs_cpu, "SEGMENT", 3)
    return CpuRows(ratings, threads=2)


def test_gram_is_that_of_the_reference(reference: ReferenceRows, fast: Rows, generator: torch.Generator) -> None:
    other_CK, weight_C = random(generator, COLUMNS, WIDTH), random(generator, COLUMNS).exp()

    gram_RKK, rhs_RK = fast.gram(other_CK, weight_C)

    expected_RKK, expected_RK = reference.gram(other_CK.double(), weight_C.double())
    torch.testing.assert_close(gram_RKK.double(), expected_RKK, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rhs_RK.double(), expected_RK, rtol=1e-5, atol=1e-5)


def test_draw_is_that_of_the_reference(reference: ReferenceRows, fast: Rows, generator: torch.Generator) -> None:
    gram_RKK, rhs_RK = fast.gram(random(generator, COLUMNS, WIDTH), torch.ones(COLUMNS))
    scale_R, precision_K = random(generator, ROWS).exp(), 3 * random(generator, WIDTH).exp()
    prior_RK, noise_RK = random(generator, ROWS, WIDTH), random(generator, ROWS, WIDTH)
    expected_RKK, expected_RK = gram_RKK.double(), rhs_RK.double()

    drawn_RK = fast.draw(RowState(gram_RKK, rhs_RK, scale_R, prior_RK, precision_K), noise_RK)

    doubles = (tensor.double() for tensor in (scale_R, prior_RK, precision_K))
    expected_drawn_RK = reference.draw(RowState(expected_RKK, expected_RK, *doubles), noise_RK.double())
    torch.testing.assert_close(drawn_RK.double(), expected_drawn_RK, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gram_RKK.double(), expected_RKK, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rhs_RK.double(), expected_RK, rtol=1e-3, atol=1e-3)


def test_implicit_effects_are_those_of_the_reference(ratings: Triplets, fast: Rows, generator: torch.Generator) -> None:
    reference = ReferenceRows(ratings, joint=isinstance(fast, TorchRows))
    root_CKK = random(generator, COLUMNS, WIDTH, WIDTH)
    fixed = (random(generator, COLUMNS).abs(), root_CKK @ root_CKK.mT / WIDTH)
    gradient_CK, effect_RK = random(generator, COLUMNS, WIDTH), random(generator, ROWS, WIDTH)
    noise = random(generator, ROWS, WIDTH), random(generator, COLUMNS, WIDTH)
    precision_K = 2 + random(generator, WIDTH).abs()
    table_CK, shift_CK = random(generator, COLUMNS, WIDTH), random(generator, COLUMNS, WIDTH)
    actual = EffectState(*fixed, gradient_CK, effect_RK, precision_K, table_CK, shift_CK)
    expected = EffectState(*(tensor.double() for tensor in actual))

    for rows, state in ((fast, actual), (reference, expected)):
        rows.draw_effects(state, iter(noise))

    for tensor, expected_tensor in zip(actual, expected, strict=True):
        torch.testing.assert_close(tensor.double(), expected_tensor, rtol=1e-3, atol=1e-3)


def test_joint_effects_have_the_mean_and_the_covariance_of_the_conditional(generator: torch.Generator) -> None:
    rows_N, columns_N = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 2])
    reference = ReferenceRows(Triplets(rows_N, columns_N, torch.zeros(5), 2, 3), joint=True)
    root_CKK, share_C = random(generator, 3, 2, 2).double(), torch.tensor([0.9, 0.7, 0.5]).double()
    gram_CKK, precision_K = root_CKK @ root_CKK.mT, torch.tensor([1.0, 2.0]).double()
    gradient_CK, old_RK = random(generator, 3, 2).double(), random(generator, 2, 2).double()

    def drawn(noise_S: torch.Tensor) -> torch.Tensor:
        effect_RK, tables = old_RK.clone(), (torch.zeros(3, 2).double(), torch.zeros(3, 2).double())
        state = EffectState(share_C, gram_CKK, gradient_CK.clone(), effect_RK, precision_K, *tables)
        reference.draw_effects(state, iter(noise_S.view(5, 2).split([2, 3])))
        return effect_RK.flatten()

    mean_P = drawn(torch.zeros(10).double())
    # A draw is the mean plus a matrix times standard normal noise: the covariance is that matrix times its transpose.
    root_SP = torch.stack([drawn(noise_S) for noise_S in torch.eye(10).double()]) - mean_P

    design_CKP = torch.zeros(3, 2, 4).double()
    for row, column in zip(rows_N, columns_N, strict=True):
        design_CKP[column, [0, 1], [2 * row, 2 * row + 1]] = share_C[column]
    precision_PP = torch.einsum("cap,cab,cbq->pq", design_CKP, gram_CKK, design_CKP) + precision_K.repeat(2).diag()
    covariance_PP = precision_PP.inverse()
    slope_P = torch.einsum("cap,ca->p", design_CKP, gradient_CK) - precision_K.repeat(2) * old_RK.flatten()
    expected_P = old_RK.flatten() + covariance_PP @ slope_P
    torch.testing.assert_close(mean_P, expected_P, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(root_SP.T @ root_SP, covariance_PP, rtol=1e-3, atol=1e-4)


def test_errors_are_those_of_the_reference(reference: ReferenceRows, fast: Rows, generator: torch.Generator) -> None:
    own_RK, other_CK = random(generator, ROWS, WIDTH), random(generator, COLUMNS, WIDTH)
    weight_C = random(generator, COLUMNS).exp()

    errors_R2 = fast.errors(own_RK, other_CK, weight_C)

    expected_R2 = reference.errors(own_RK.double(), other_CK.double(), weight_C.double())
    torch.testing.assert_close(errors_R2, expected_R2, rtol=1e-5, atol=1e-5)


def test_draws_have_the_mean_and_the_covariance_of_the_conditional(generator: torch.Generator) -> None:
    root_KK = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    precision_KK, side_K = root_KK @ root_KK.T + torch.eye(3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    noise_SK = torch.randn(4_000, 3, generator=generator, dtype=torch.float64)

    drawn_SK = torch.stack([gaussian(precision_KK, side_K, noise_K) for noise_K in noise_SK])

    covariance_KK = precision_KK.inverse()
    torch.testing.assert_close(drawn_SK.mean(0), covariance_KK @ side_K, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn_SK.T.cov(), covariance_KK, rtol=0, atol=0.05)


def test_implicit_gradients_stay_those_of_the_likelihood(
    reference: ReferenceRows, ratings: Triplets, generator: torch.Generator
) -> None:
    columns = ReferenceRows(Triplets(ratings.columns_N, ratings.rows_N, ratings.values_N.double(), COLUMNS, ROWS))
    other_CK, ones_K = random(generator, COLUMNS, WIDTH).double(), torch.ones(WIDTH).double()
    gram_RKK, rhs_RK = reference.gram(other_CK, torch.ones(COLUMNS).double())
    prior_RK, noise_RK = torch.zeros(ROWS, WIDTH).double(), random(generator, ROWS, WIDTH).double()
    table_RK = reference.draw(RowState(gram_RKK, rhs_RK, torch.ones(ROWS).double(), prior_RK, ones_K), noise_RK)
    effect_CK, noise_CK = torch.zeros(COLUMNS, WIDTH).double(), random(generator, COLUMNS, WIDTH).double()

    share_R = torch.full((ROWS,), 0.3).double()
    state = EffectState(share_R, gram_RKK, rhs_RK, effect_CK, ones_K, table_RK, prior_RK)
    columns.draw_effects(state, iter([noise_CK]))

    _, side_RK = reference.gram(other_CK, torch.ones(COLUMNS).double())
    torch.testing.assert_close(rhs_RK, side_RK - torch.einsum("rab,rb->ra", gram_RKK, table_RK))


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("make", [CpuRows, partial(TorchRows, width=16)])
def test_sums_are_those_of_the_columns_that_a_row_was_rated_with(make: Callable[..., Rows]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows_N = torch.tensor([0, 0, 0, 2, 2, 3], dtype=torch.int32)  # row 1 has none
    columns_N = torch.tensor([0, 4, 6, 1, 4, 5], dtype=torch.int32)
    table_CK = torch.randn(7, 16, generator=generator)
    expected_RK = torch.stack([table_CK[columns_N[rows_N == row].long()].sum(0) for row in range(4)])
    actual_RK = make(Triplets(rows_N, columns_N, torch.zeros(6), 4, 7)).sums(table_CK)
    torch.testing.assert_close(actual_RK, expected_RK)
