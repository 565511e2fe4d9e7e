"""One bilinear form of small rank in place of another one.

QR of both sides and the SVD of the small core give the best approximation of each rank (Eckart and Young 1936).
Shapes: U users, I items, W rank of the given form, K of the approximation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.communicator import SINGLE_PROCESS, Communicator


def ranked(left_UW: Tensor, right_IW: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors of at most the given rank, as given where they have no more, else as `reduced`."""
    return (left_UW, right_IW) if left_UW.shape[1] <= rank else reduced(left_UW, right_IW, rank)


def reduced(
    left_UW: Tensor, right_IW: Tensor, rank: int, communicator: Communicator = SINGLE_PROCESS
) -> tuple[Tensor, Tensor]:
    """Factors of at most the given rank whose product is nearest to left·rightᵀ, with equal norms on both sides.

    Of several ranks each has some rows of both.
    """
    basis_U, core_U = communicator.qr(left_UW)
    basis_I, core_I = communicator.qr(right_IW)
    u, values, v = torch.linalg.svd(core_U @ core_I.T, full_matrices=False)
    u, values, v = map(communicator.from_first, (u, values, v))  # signs are free, and must be the same on all ranks
    root = values[:rank].sqrt()
    return basis_U @ (u[:, :rank] * root), basis_I @ (v[:rank].T * root)
