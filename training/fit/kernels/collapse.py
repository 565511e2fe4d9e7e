"""The posterior mean of a bilinear form as one bilinear form of small rank, without holding the samples.

Σ_s P_s Q_sᵀ is the product of the concatenated factors; QR of both sides and the SVD of the small core give the best
approximation of each rank (Eckart and Young 1936). Samples are taken in blocks, and between blocks a rank well above
the published one is kept. Shapes: U users, I items, F factors of a sample, W working rank, K published rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.communicator import ALONE, Communicator


class Collapse:
    """A running sum of P_s Q_sᵀ.

    Args:
        users, items: rows of P and Q.
        rank: W, what is kept between blocks.
        block: how many columns of samples are gathered before they are reduced.
        device: where the sum is kept.
        ranks: who keeps it; each has some rows of P and of Q.
    """

    def __init__(
        self, users: int, items: int, *, rank: int, block: int, device: torch.device, ranks: Communicator = ALONE
    ) -> None:
        self._rank, self._block, self._ranks = rank, block, ranks
        self.left_UW = torch.zeros(users, 0, device=device)
        self.right_IW = torch.zeros(items, 0, device=device)

    def add(self, p_UF: Tensor, q_IF: Tensor) -> None:
        """Add P Qᵀ to the sum."""
        self.left_UW = torch.cat([self.left_UW, p_UF], dim=1)
        self.right_IW = torch.cat([self.right_IW, q_IF], dim=1)
        if self.left_UW.shape[1] >= self._rank + self._block:
            self.left_UW, self.right_IW = reduced(self.left_UW, self.right_IW, self._rank, self._ranks)

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """The sum as factors of the given rank, (U, K) and (I, K), zeros where it has less."""
        left_UK, right_IK = reduced(self.left_UW, self.right_IW, rank, self._ranks)
        missing = (0, rank - left_UK.shape[1])
        return torch.nn.functional.pad(left_UK, missing), torch.nn.functional.pad(right_IK, missing)


def ranked(left_UW: Tensor, right_IW: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors of at most the given rank, as given where they have no more, else as `reduced`."""
    return (left_UW, right_IW) if left_UW.shape[1] <= rank else reduced(left_UW, right_IW, rank)


def reduced(left_UW: Tensor, right_IW: Tensor, rank: int, ranks: Communicator = ALONE) -> tuple[Tensor, Tensor]:
    """Factors of at most the given rank whose product is nearest to left·rightᵀ, with equal norms on both sides.

    Of several ranks each has some rows of both.
    """
    basis_U, core_U = _qr(left_UW, ranks)
    basis_I, core_I = _qr(right_IW, ranks)
    u, values, v = torch.linalg.svd(core_U @ core_I.T, full_matrices=False)
    if ranks is not ALONE:  # signs are free, and the same for all
        u, values, v = (ranks.from_first(part.contiguous()) for part in (u, values, v))
    root = values[:rank].sqrt()
    return basis_U @ (u[:, :rank] * root), basis_I @ (v[:rank].T * root)


def _qr(rows_RW: Tensor, ranks: Communicator) -> tuple[Tensor, Tensor]:
    """Q and R of the rows of all ranks, of Q the rows here: a QR of the Rs of all ranks (TSQR, Demmel et al. 2012)."""
    basis_RW, core_WW = torch.linalg.qr(rows_RW)
    if ranks is ALONE:
        return basis_RW, core_WW
    width = rows_RW.shape[1]
    padded_WW = core_WW.new_zeros(width, width)
    padded_WW[: len(core_WW)] = core_WW
    joint, core_WW = torch.linalg.qr(ranks.stacked(padded_WW).flatten(0, 1))
    joint, core_WW = ranks.from_first(joint), ranks.from_first(core_WW)
    begin = ranks.rank * width
    return basis_RW @ joint[begin : begin + basis_RW.shape[1]], core_WW
