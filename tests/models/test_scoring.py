"""The score of a pair: right, and the same bits wherever the pair stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.scoring import PAIRS_AT_ONCE, BilinearForm, Side, _sum_by_halves, dot, norms
from tests.support.orderings import KINDS, USERS, make_ordering

ROWS = 37
NO_BOUNDS = np.float32(-np.inf), np.float32(np.inf)


def tables(factors: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(factors)
    p_BF, q_BF = (rng.standard_normal((ROWS, factors)).astype(np.float32) for _ in range(2))
    return p_BF, q_BF


def misaligned(table: np.ndarray, floats: int) -> np.ndarray:
    """The same values, beginning the given number of floats further on."""
    room = np.empty(table.size + floats, dtype=np.float32)[floats:].reshape(table.shape)
    room[:] = table
    return room


@pytest.mark.parametrize("factors", range(301))
def test_a_pair_has_the_same_bits_alone_in_a_batch_and_anywhere_in_memory(factors: int) -> None:
    p_BF, q_BF = tables(factors)
    expected = dot(p_BF, q_BF).tolist()
    rows = np.arange(ROWS)
    form = BilinearForm(Side(torch.from_numpy(p_BF)), Side(torch.from_numpy(q_BF)))
    assert np.allclose(expected, (p_BF.astype(np.float64) * q_BF).sum(1), atol=1e-4)
    assert [dot(p_BF[[row]], q_BF[[row]])[0] for row in range(ROWS)] == expected
    assert dot(misaligned(p_BF, 1), misaligned(q_BF, 3)).tolist() == expected
    by_columns = BilinearForm(Side(torch.from_numpy(np.asfortranarray(p_BF))), Side(torch.from_numpy(q_BF)))
    assert by_columns.scores(rows, rows).tolist() == expected
    assert form.scores(rows[::-1], rows[::-1]).tolist() == expected[::-1]
    assert [form.scores(rows[[row]], rows[[row]])[0] for row in range(ROWS)] == expected
    pair = form.pair_within(*NO_BOUNDS)
    assert [pair(row, row) for row in range(ROWS)] == expected
    assert dot(p_BF[5], q_BF).tolist() == dot(np.repeat(p_BF[5:6], ROWS, axis=0), q_BF).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factors", [0, 1, 7, 48, 257])
def test_a_score_has_the_same_bits_however_it_is_asked_for(kind: str, factors: int) -> None:
    form, items_I = make_ordering(kind, 500, factors, 1, 1e-4), np.arange(500)
    for user in range(USERS + 1):
        expected = form.exact(torch.full((500,), user), torch.from_numpy(items_I)).tolist()
        assert form.scores_of_all(user).tolist() == expected
        assert form.scores(user, items_I).tolist() == expected
        assert form.scores(np.full(500, user), items_I).tolist() == expected
        pair = form.pair_within(*NO_BOUNDS)
        assert [pair(user, item) for item in range(0, 500, 50)] == expected[::50]


@pytest.mark.parametrize("kind", ["rating", "lower_bound", "factors"])
def test_a_given_row_is_scored_as_the_row_of_the_table(kind: str) -> None:
    form, items_N = make_ordering(kind, 50, 8, 1, 1e-4), np.arange(51)
    factors, bias, variance = (None if table is None else table[3] for table in form.users.host)
    expected = form.scores(3, items_N).tolist()
    assert form.scores_of((factors, bias, variance), items_N).tolist() == expected


@pytest.mark.parametrize("kind", ["rating", "lower_bound", "factors"])
def test_given_rows_are_scored_as_the_rows_of_the_table(kind: str) -> None:
    form, items_N = make_ordering(kind, 50, 8, 1, 1e-4), np.arange(51)
    users_N = items_N % (USERS + 1)
    rows = tuple(None if table is None else table[users_N] for table in form.users.host)
    expected = form.scores(users_N, items_N).tolist()
    assert form.scores_of(rows, items_N).tolist() == expected
    assert form.of_user(rows).scores(items_N, items_N).tolist() == expected


def test_more_pairs_than_are_scored_at_once() -> None:
    form = make_ordering("rating", 500, 48, 0, 1e-4)
    rng = np.random.default_rng(0)
    users_M, items_M = (rng.integers(high, size=2 * PAIRS_AT_ONCE + 5) for high in (USERS, 500))
    parts = [slice(begin, begin + 1_000) for begin in range(0, len(users_M), 1_000)]
    expected = np.concatenate([form.scores(users_M[part], items_M[part]) for part in parts])
    assert form.scores(users_M, items_M).tolist() == expected.tolist()
    assert form.scores(2, items_M).tolist() == form.scores(np.full_like(items_M, 2), items_M).tolist()


@pytest.mark.parametrize("factors", [0, 1, 2, 3, 7, 48, 64, 257])
def test_the_sum_by_halves_does_not_depend_on_the_batch(factors: int) -> None:
    p_BF, q_BF = (torch.from_numpy(table) for table in tables(factors))
    sums_B = _sum_by_halves(p_BF * q_BF)
    torch.testing.assert_close(sums_B, (p_BF * q_BF).sum(-1), atol=1e-4, rtol=1e-4)
    alone = [_sum_by_halves(p_BF[[row]] * q_BF[[row]]) for row in range(ROWS)]
    assert torch.equal(torch.cat(alone), sums_B)


@pytest.mark.parametrize("factors", [0, 1, 7, 64])
def test_norms_have_the_bits_of_pairs(factors: int) -> None:
    _, q_IF = tables(factors)
    assert norms(torch.from_numpy(q_IF)).tolist() == np.sqrt(dot(q_IF, q_IF)).tolist()
    assert torch.equal(norms(torch.from_numpy(q_IF)[9:12]), norms(torch.from_numpy(q_IF))[9:12])


def test_a_row_that_does_not_exist_is_an_error() -> None:
    form = BilinearForm(Side(torch.zeros(3, 2)), Side(torch.zeros(3, 2)))
    with pytest.raises(IndexError):
        form.exact(torch.tensor([3]), torch.tensor([0]))
    with pytest.raises(IndexError):
        form.pair_within(*NO_BOUNDS)(3, 0)


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_have_their_shapes_on_every_device(kind: str, device: str, batch: int) -> None:
    there, form = torch.device(device), make_ordering(kind, 3, 4, 0, 0)
    mean = None if form.mean is None else form.mean.to(there)
    form = BilinearForm(form.users.to(there), form.items.to(there), mean)
    rows = torch.zeros(batch, dtype=torch.int64, device=device)
    assert form.exact(rows, rows).shape == (batch,)
    assert dot(form.item_factors[0], form.item_factors).shape == norms(form.item_factors).shape == (4,)
