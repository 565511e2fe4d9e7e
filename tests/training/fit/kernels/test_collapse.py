"""Sums of bilinear forms, and what is lost when their rank is cut."""

import torch

from training.fit.kernels.collapse import Collapse, reduced

CPU = torch.device("cpu")


def samples(count: int, factors: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Samples around one form of that rank, each rotated at random, as a sampler leaves them."""
    generator = torch.Generator().manual_seed(0)
    p_UF, q_IF = (torch.randn(rows, factors, generator=generator) for rows in (60, 40))
    drawn = []
    for _ in range(count):
        rotation_FF = torch.linalg.qr(torch.randn(factors, factors, generator=generator)).Q
        p = p_UF + 0.1 * torch.randn(60, factors, generator=generator)
        drawn.append((p @ rotation_FF, q_IF @ rotation_FF))
    return drawn


def test_sum_is_exact_while_the_rank_suffices() -> None:
    collapse = Collapse(60, 40, rank=40, block=8, device=CPU)
    expected_UI = torch.zeros(60, 40)
    for p_UF, q_IF in samples(20, 4):
        collapse.add(p_UF, q_IF)
        expected_UI += p_UF @ q_IF.T

    left_UK, right_IK = collapse.factors(40)

    torch.testing.assert_close(left_UK @ right_IK.T, expected_UI, rtol=1e-4, atol=1e-3)


def test_mean_of_rotated_samples_keeps_their_rank() -> None:
    collapse = Collapse(60, 40, rank=12, block=16, device=CPU)
    drawn = samples(50, 4)
    for p_UF, q_IF in drawn:
        collapse.add(p_UF, q_IF)
    expected_UI = sum(p_UF @ q_IF.T for p_UF, q_IF in drawn) / 50

    left_UK, right_IK = collapse.factors(4)

    error = (left_UK @ right_IK.T / 50 - expected_UI).square().mean().sqrt()
    assert error < 0.01 * expected_UI.std()


def test_cut_is_the_best_of_its_rank() -> None:
    generator = torch.Generator().manual_seed(2)
    left_UW, right_IW = torch.randn(9, 6, generator=generator), torch.randn(7, 6, generator=generator)

    left_UK, right_IK = reduced(left_UW, right_IW, 3)

    best_error = torch.linalg.svdvals(left_UW @ right_IW.T)[3:].square().sum()
    torch.testing.assert_close((left_UW @ right_IW.T - left_UK @ right_IK.T).square().sum(), best_error)


def test_missing_rank_is_filled_with_zeros() -> None:
    collapse = Collapse(3, 2, rank=10, block=10, device=CPU)
    collapse.add(torch.ones(3, 4), torch.ones(2, 4))

    left_UK, right_IK = collapse.factors(6)

    assert (left_UK.shape, right_IK.shape) == ((3, 6), (2, 6))
    torch.testing.assert_close(left_UK @ right_IK.T, torch.full((3, 2), 4.0))
