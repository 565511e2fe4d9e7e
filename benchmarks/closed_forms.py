"""Item-to-item models in closed form, as others publish them, to compare the relevance head with.

A score is x_u·B; x_u are a user's values of all items: what was rated (clicks), or the targets of the relevance head.
- `ease`: B_j = e_j − P_j/P_jj, P = (XᵀX + λI)⁻¹ (Steck, "Embarrassingly shallow autoencoders for sparse data", 2019);
- `sparse`: the same, for each item among the `NEIGHBOURS` items with the largest entries of XᵀX alone, so that B is
  sparse and no matrix of items × items is inverted. SANSA (Spišák et al., RecSys 2023) makes P itself sparse.
Shapes: U users, I items, S neighbours of an item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

NEIGHBOURS = 100
ITEMS_AT_ONCE = 500
RIDGES = (3.0, 10.0, 30.0, 100.0, 200.0, 400.0, 800.0)
ClosedForm = Callable[[Tensor, float], Tensor]  # from XᵀX and λ to B, (I, I)


def ease(gram_II: Tensor, ridge: float) -> Tensor:
    precision_II = gram_II.clone()
    precision_II.diagonal().add_(ridge)
    inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(precision_II))
    weights_II = inverse_II / -inverse_II.diagonal()
    weights_II.diagonal().zero_()
    return weights_II


def sparse(gram_II: Tensor, ridge: float) -> Tensor:
    """Mostly zeros, in a dense matrix, which is how they are multiplied here."""
    items = len(gram_II)
    weights_II = torch.zeros_like(gram_II)
    others_II = gram_II.clone()
    others_II.diagonal().fill_(-torch.inf)
    for items_B in torch.arange(items).split(ITEMS_AT_ONCE):
        near_BS = others_II[items_B].topk(min(NEIGHBOURS, items - 1)).indices
        local_BSS = gram_II[near_BS[:, :, None], near_BS[:, None, :]]
        local_BSS.diagonal(dim1=1, dim2=2).add_(ridge)
        right_BS = gram_II[near_BS, items_B[:, None]]
        solved_BS = torch.cholesky_solve(right_BS[..., None], torch.linalg.cholesky(local_BSS))[..., 0]
        weights_II[near_BS, items_B[:, None]] = solved_BS
    return weights_II


CLOSED_FORMS: Mapping[str, ClosedForm] = {"EASE": ease, "EASE on 100 neighbours": sparse}
