"""Means of bilinear forms, and what is lost when their rank is cut."""

import torch

from training.communicator import SINGLE_PROCESS, LocalRows, Span
from training.fit.kernels.collapse import reduced
from training.fit.kernels.posterior import Mean


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


def collapsed(
    drawn: list[tuple[torch.Tensor, torch.Tensor]], *, keep: int, block: int, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of forms without biases, as factors of that rank. The last rows are those of unknown ids."""
    users, items = (LocalRows(SINGLE_PROCESS, Span.whole(len(table) - 1)) for table in drawn[0])
    mean = Mean(users, items, torch.device("cpu"), rank=keep, block=block)
    for tables in drawn:
        mean.add(*(torch.nn.functional.pad(table, (0, 1)) for table in tables))
    user_UK, item_IK = mean.tables(rank)
    return user_UK[:, :-1], item_IK[:, :-1]


def test_mean_is_exact_while_the_rank_suffices() -> None:
    drawn = samples(20, 4)

    left_UK, right_IK = collapsed(drawn, keep=40, block=8, rank=40)

    expected_UI = sum(p_UF @ q_IF.T for p_UF, q_IF in drawn) / 20
    torch.testing.assert_close(left_UK @ right_IK.T, expected_UI, rtol=1e-4, atol=1e-4)


def test_mean_of_rotated_samples_keeps_their_rank() -> None:
    drawn = samples(50, 4)

    left_UK, right_IK = collapsed(drawn, keep=12, block=16, rank=4)

    expected_UI = sum(p_UF @ q_IF.T for p_UF, q_IF in drawn) / 50
    error = (left_UK @ right_IK.T - expected_UI).square().mean().sqrt()
    assert error < 0.01 * expected_UI.std()


def test_cut_is_the_best_of_its_rank() -> None:
    generator = torch.Generator().manual_seed(2)
    left_UW, right_IW = torch.randn(9, 6, generator=generator), torch.randn(7, 6, generator=generator)

    left_UK, right_IK = reduced(left_UW, right_IW, 3)

    best_error = torch.linalg.svdvals(left_UW @ right_IW.T)[3:].square().sum()
    torch.testing.assert_close((left_UW @ right_IW.T - left_UK @ right_IK.T).square().sum(), best_error)


def test_missing_rank_is_filled_with_zeros() -> None:
    left_UK, right_IK = collapsed([(torch.ones(3, 4), torch.ones(2, 4))], keep=10, block=10, rank=6)

    assert (left_UK.shape, right_IK.shape) == ((3, 6), (2, 6))
    torch.testing.assert_close(left_UK @ right_IK.T, torch.full((3, 2), 4.0))
