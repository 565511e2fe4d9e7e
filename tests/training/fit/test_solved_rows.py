"""Users' rows against orthogonal factors: the same as folding these users in one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.relevance import HeadSolver, RelevanceHead, RelevanceRule
from models.relevance import targets as targets_of
from tests.support.data import planted_set
from training.fit import solved_rows as module
from training.fit.item_regression import compressed_rows
from training.fit.relevance_settings import RelevanceSettings
from training.fit.solved_rows import TargetsByUser, solved_rows

SQUARE = 9.0
SETTINGS = RelevanceSettings()


@pytest.mark.parametrize("factors", [1, 6, 30])
@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_rows_are_those_of_fold_in(factors: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users with more and with fewer ratings than there are factors, in blocks of one user and all in one block."""
    monkeypatch.setattr(module, "CELLS_AT_ONCE", cells)
    data = planted_set(users=50, items=40, ratings=700)
    drawn = np.random.default_rng(0).standard_normal((40, factors))
    items_IG = torch.from_numpy(3 * np.linalg.qr(drawn).Q).float()
    mean, deviation = (float(value) for value in data.standardisation())
    given_N = targets_of(data.ratings_N, mean, deviation, SETTINGS.slope)
    given_UI = compressed_rows(data.users_N.long(), data.items_N.long(), given_N, (50, 40))
    rows_UG, error = solved_rows(TargetsByUser.of(given_UI), items_IG, SQUARE, SETTINGS)
    rule = RelevanceRule(
        mean=mean,
        deviation=deviation,
        slope=SETTINGS.slope,
        missing_weight=SETTINGS.missing_weight,
        regularisation=SETTINGS.regularisation,
        exponent=SETTINGS.exponent,
        solved_factors=factors,
    )
    with_last = torch.cat([items_IG, torch.zeros(1, factors)])
    solver = HeadSolver(RelevanceHead(torch.zeros(1, factors), with_last, torch.zeros_like(with_last), rule))
    for user in range(50):
        own_N = data.users_N == user
        expected_G = solver.solve(data.items_N[own_N].long().numpy(), data.ratings_N[own_N].numpy())
        np.testing.assert_allclose(rows_UG[user].numpy(), expected_G, rtol=1e-4, atol=1e-5)
    target_UI = given_UI.to_dense().double()
    weight_UI = torch.where(target_UI > 0, 1.0, SETTINGS.missing_weight)
    expected = (weight_UI * (target_UI - rows_UG.double() @ items_IG.double().T).square()).sum()
    assert float(error) == pytest.approx(float(expected), rel=1e-4)


def test_a_user_without_ratings_has_zeros() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    targets = TargetsByUser(torch.zeros(4, dtype=torch.int64), none, torch.zeros(0))
    rows_UG, error = solved_rows(targets, torch.eye(5), 1.0, SETTINGS)
    assert torch.equal(rows_UG, torch.zeros(3, 5))
    assert error == 0
