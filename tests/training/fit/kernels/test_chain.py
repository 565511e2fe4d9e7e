"""A whole sweep, with any of the three implementations of its steps."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from tests.support.gibbs_reference import ReferenceRows
from training.communicator import SINGLE_PROCESS, LocalRows, Span
from training.fit.kernels.gibbs import Chain, RandomStream, Rows, start_effects, start_side
from training.fit.kernels.gibbs_cpu import CpuRows
from training.fit.kernels.gibbs_torch import TorchRows
from training.fit.kernels.grouping import Triplets

USERS, ITEMS, WIDTH = 30, 20, 8
CPU = torch.device("cpu")
MakeRows = Callable[[Triplets], Rows]


def make_chain(make_rows: MakeRows) -> Chain:
    generator, stream = torch.Generator().manual_seed(0), RandomStream(1, 0, 0, CPU)
    users_N, items_N = (torch.rand(USERS, ITEMS, generator=generator) < 0.4).nonzero().T.to(torch.int32)
    values_N = torch.randn(len(users_N), generator=generator)
    attributes_UA = torch.randn(USERS, 2, generator=generator)
    by_user = make_rows(Triplets(users_N, items_N, values_N, USERS, ITEMS))
    by_item = make_rows(Triplets(items_N, users_N, values_N, ITEMS, USERS))
    counts = torch.bincount(users_N, minlength=USERS), torch.bincount(items_N, minlength=ITEMS)
    user = start_side(by_user, counts[0], attributes_UA, WIDTH, stream, LocalRows(SINGLE_PROCESS, Span.whole(USERS)))
    item = start_side(by_item, counts[1], None, WIDTH, stream, LocalRows(SINGLE_PROCESS, Span.whole(ITEMS)))
    start_effects(user, item, stream)
    return Chain(user, item, torch.ones((), dtype=torch.float64), implicit=True, freedom=(20.0, 10.0))


@pytest.mark.parametrize(
    ("make_reference", "make_rows"),
    [(ReferenceRows, CpuRows), (partial(ReferenceRows, joint=True), partial(TorchRows, width=WIDTH))],
)
def test_sweeps_do_not_depend_on_the_implementation(make_reference: MakeRows, make_rows: MakeRows) -> None:
    expected, actual = make_chain(make_reference), make_chain(make_rows)

    for sweep in range(1, 4):
        expected_loss = expected.sweep(RandomStream(1, 0, sweep, CPU))
        loss = actual.sweep(RandomStream(1, 0, sweep, CPU))

    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=0)
    for name, tensor in expected.state().items():
        torch.testing.assert_close(actual.state()[name], tensor, rtol=2e-3, atol=2e-3)


def test_tables_are_the_rows_own_part_and_the_effects_of_what_they_rated() -> None:
    chain = make_chain(CpuRows)
    chain.sweep(RandomStream(1, 0, 1, CPU))

    generator = torch.Generator().manual_seed(0)
    rated_UI = torch.rand(USERS, ITEMS, generator=generator) < 0.4
    expected_UK = rated_UI.float() @ chain.item.effect_RK * chain.user.share_R[:, None]
    torch.testing.assert_close(chain.user.shift_RK, expected_UK, rtol=1e-4, atol=1e-5)


def test_noise_is_a_function_of_key_chain_and_sweep() -> None:
    first, again = (RandomStream(7, 1, 4, CPU).normal(5) for _ in range(2))
    others = [RandomStream(*key, CPU).normal(5) for key in ((8, 1, 4), (7, 2, 4), (7, 1, 5))]

    assert torch.equal(first, again)
    assert not any(torch.equal(first, other) for other in others)
