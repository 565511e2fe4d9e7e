"""The split of a pair's variance into parts of its rows."""

import numpy as np
import torch

from training.communicator import SINGLE_PROCESS, LocalRows, Span
from training.fit.kernels.posterior import Mean, Spread, additive, draw_probes


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
    spread = Spread(probes_2N, 30, 20)
    for _ in range(400):
        user_UK, item_IK = torch.zeros(31, 2), torch.zeros(21, 2)
        user_UK[:, 1] = 0.5 * torch.randn(31, generator=generator)
        user_UK[:15, 1] *= 2
        spread.add(user_UK, item_IK, torch.full((31,), 0.5), torch.full((21,), 0.5))

    noise, user_U, item_I = spread.variances()

    variance_UI = noise + user_U[:, None] + item_I
    assert min(noise.item(), user_U.min().item(), item_I.min().item()) >= 0
    torch.testing.assert_close(variance_UI[:15].mean().item(), 1.25, rtol=0.1, atol=0)
    torch.testing.assert_close(variance_UI[15:].mean().item(), 0.5, rtol=0.1, atol=0)


def test_a_mixture_has_the_variance_between_its_parts_too() -> None:
    users_N, items_N = torch.arange(30).repeat_interleave(20), torch.arange(20).repeat(30)
    probes_2N = draw_probes(users_N, items_N, 30, Span.whole(20), np.random.default_rng(0))
    spreads = [Spread(probes_2N, 30, 20) for _ in range(2)]
    for spread, bias in zip(spreads, (1.0, -1.0), strict=True):
        user_UK = torch.zeros(31, 2)
        user_UK[:, 1] = bias
        spread.add(user_UK, torch.zeros(21, 2), torch.full((31,), 0.5), torch.ones(21))

    mixture = Spread(probes_2N, 30, 20)
    for spread in spreads:
        mixture.add_all(spread, 0.5)

    noise, user_U, item_I = mixture.variances()

    torch.testing.assert_close(noise + user_U[:, None] + item_I, torch.full((31, 21), 1.5), rtol=1e-4, atol=0)


def test_samples_count_as_their_weights_say() -> None:
    rows = LocalRows(SINGLE_PROCESS, Span.whole(3)), LocalRows(SINGLE_PROCESS, Span.whole(2))
    mean, generator = Mean(*rows, torch.device("cpu"), rank=8, block=4), torch.Generator().manual_seed(0)
    samples = [(torch.randn(4, 3, generator=generator), torch.randn(3, 3, generator=generator)) for _ in range(3)]
    for (user_UK, item_IK), weight in zip(samples, (0.5, 1.0, 2.5), strict=True):
        mean.add(user_UK, item_IK, weight)

    mean_UK, mean_IK = mean.tables(4)

    expected_UI = sum(
        weight / 4 * user_UK[:, :-1] @ item_IK[:, :-1].T
        for (user_UK, item_IK), weight in zip(samples, (0.5, 1.0, 2.5), strict=True)
    )
    torch.testing.assert_close(mean_UK[:, :-1] @ mean_IK[:, :-1].T, expected_UI)
    torch.testing.assert_close(mean_UK[:, -1], (0.5 * samples[0][0] + samples[1][0] + 2.5 * samples[2][0])[:, -1] / 4)
