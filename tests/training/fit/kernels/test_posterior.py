"""The split of a pair's variance into parts of its rows."""

import numpy as np
import torch

from training.communicator import SINGLE_PROCESS, LocalRows, Span
from training.fit.kernels.posterior import Posterior, additive, draw_probes


def test_additive_values_are_split_exactly_but_for_the_shrinkage() -> None:
    users_N, items_N = torch.arange(50).repeat_interleave(40), torch.arange(40).repeat(50)
    user_U, item_I = torch.linspace(-1, 1, 50).double(), torch.linspace(-0.5, 0.5, 40).double()
    values_N = 3 + user_U[users_N] + item_I[items_N]

    common, user_part_U, item_part_I = additive(values_N, torch.stack([users_N, items_N]), 50, 40)

    torch.testing.assert_close(common.item(), 3.0)
    torch.testing.assert_close(user_part_U, user_U, rtol=0.05, atol=0.01)
    torch.testing.assert_close(item_part_I, item_I, rtol=0.05, atol=0.01)


def test_variance_is_noise_and_spread_of_the_samples() -> None:
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    users_N, items_N = torch.arange(30).repeat_interleave(20), torch.arange(20).repeat(30)
    probes_2N = draw_probes(users_N, items_N, 30, Span.whole(20), rng)
    posterior = Posterior(
        probes_2N, LocalRows(SINGLE_PROCESS, Span.whole(30)), LocalRows(SINGLE_PROCESS, Span.whole(20)), rank=4, block=4
    )
    for _ in range(400):
        user_UK, item_IK = torch.zeros(31, 2), torch.zeros(21, 2)
        user_UK[:, 1] = 0.5 * torch.randn(31, generator=generator)
        user_UK[:15, 1] *= 2
        posterior.add(user_UK, item_IK)
        posterior.probe(user_UK, item_IK, torch.full((31,), 0.5), torch.full((21,), 0.5))

    noise, user_U, item_I = posterior.variances()

    variance_UI = noise + user_U[:, None] + item_I
    assert min(noise.item(), user_U.min().item(), item_I.min().item()) >= 0
    torch.testing.assert_close(variance_UI[:15].mean().item(), 1.25, rtol=0.1, atol=0)
    torch.testing.assert_close(variance_UI[15:].mean().item(), 0.5, rtol=0.1, atol=0)
