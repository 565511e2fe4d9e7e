"""The posterior mean of a bilinear form as one bilinear form of small rank, without holding the samples.

Σ_s P_s Q_sᵀ is the product of the concatenated factors; QR of both sides and the SVD of the small core give the best
approximation of each rank (Eckart and Young 1936). Samples are taken in blocks, and between blocks a rank well above
the published one is kept. Shapes: U users, I items, F factors of a sample, W working rank, K published rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.communicator import SINGLE_PROCESS, Communicator


class Collapse:
    """A running sum of P_s Q_sᵀ.

    Args:
        users, items: rows of P and Q.
        rank: W, what is kept between blocks.
        block: how many columns of samples are gathered before they are reduced.
        device: where the sum is kept.
        communicator: of the ranks that keep it; each has some rows of P and of Q.
    """

    def __init__(
        self,
        users: int,
        items: int,
        *,
        rank: int,
        block: int,
        device: torch.device,
        communicator: Communicator = SINGLE_PROCESS,
    ) -> None:
        self._rank, self._block, self._communicator = rank, block, communicator
        self.left_UW = torch.zeros(users, 0, device=device)
        self.right_IW = torch.zeros(items, 0, device=device)

    def add(self, p_UF: Tensor, q_IF: Tensor) -> None:
        """Add P Qᵀ to the sum."""
        self.left_UW = torch.cat([self.left_UW, p_UF], dim=1)
        self.right_IW = torch.cat([self.right_IW, q_IF], dim=1)
        if self.left_UW.shape[1] >= self._rank + self._block:
            self.left_UW, self.right_IW = reduced(self.left_UW, self.right_IW, self._rank, self._communicator)

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """The sum as factors of the given rank, (U, K) and (I, K), zeros where it has less."""
        left_UK, right_IK = reduced(self.left_UW, self.right_IW, rank, self._communicator)
        missing = (0, rank - left_UK.shape[1])
        return torch.nn.functional.pad(left_UK, missing), torch.nn.functional.pad(right_IK, missing)


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
