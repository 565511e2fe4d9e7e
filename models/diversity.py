"""Lists whose items are unlike one another: maximal marginal relevance (Carbonell and Goldstein 1998) over factors.

It knows scores and factors, not what they are of. Shapes: C candidates, G factors, N picks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CANDIDATES = 500  # the best of a list, which are put in another order; what comes after them stays where it is
TINY = np.finfo(np.float32).tiny


def diversified(
    scores_C: npt.NDArray[np.float32], factors_CG: npt.NDArray[np.float32], diversity: float, picks: int
) -> npt.NDArray[np.int64]:
    """Positions of the candidates in their new order, at most `picks` of them, (N,).

    Each pick is the candidate with the largest (1 − diversity) · score − diversity · likeness. Scores are put on 0 to
    1; the likeness is the largest cosine with what was picked before, 0 for the first. Equal ones stay in their order.
    """
    count = min(picks, len(scores_C))
    directions_CG = factors_CG / np.maximum(np.linalg.norm(factors_CG, axis=1, keepdims=True), TINY)
    spread = float(np.ptp(scores_C)) if len(scores_C) else 0.0
    worth_C = (1 - diversity) * (scores_C.astype(np.float64) - scores_C.min(initial=np.inf)) / max(spread, TINY)
    likeness_C = np.full(len(scores_C), -np.inf)
    order_N = np.empty(count, np.int64)
    for place in range(count):
        marginal_C = worth_C - diversity * likeness_C if place else worth_C
        order_N[place] = best = int(marginal_C.argmax())
        np.maximum(likeness_C, directions_CG @ directions_CG[best], out=likeness_C)
        worth_C[best] = -np.inf
    return order_N
