"""The dot product: right, and the same bits wherever a pair stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.scoring import PAIRS_AT_ONCE, _halving_sum, dot_all, dot_items, dot_rows, gather_dot, norms

ROWS = 37


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
    expected = dot_rows(p_BF, q_BF).tolist()
    rows = torch.arange(ROWS)
    p_UF, q_IF = torch.from_numpy(p_BF), torch.from_numpy(q_BF)
    assert np.allclose(expected, (p_BF.astype(np.float64) * q_BF).sum(1), atol=1e-4)
    assert [dot_rows(p_BF[[row]], q_BF[[row]])[0] for row in range(ROWS)] == expected
    assert dot_rows(misaligned(p_BF, 1), misaligned(q_BF, 3)).tolist() == expected
    assert dot_rows(np.asfortranarray(p_BF), q_BF).tolist() == expected
    assert gather_dot(p_UF, q_IF, rows.flip(0), rows.flip(0)).tolist() == expected[::-1]
    assert [gather_dot(p_UF, q_IF, rows[[row]], rows[[row]]).item() for row in range(ROWS)] == expected
    assert dot_all(p_BF[5], q_BF).tolist() == dot_rows(np.repeat(p_BF[5:6], ROWS, axis=0), q_BF).tolist()


def test_more_pairs_than_are_gathered_at_once() -> None:
    p_UF, q_IF = (torch.from_numpy(table) for table in tables(48))
    rng = np.random.default_rng(0)
    users_B, items_B = torch.from_numpy(rng.integers(ROWS, size=(2, 2 * PAIRS_AT_ONCE + 5)))
    parts = zip(users_B.split(1_000), items_B.split(1_000), strict=True)
    expected = torch.cat([gather_dot(p_UF, q_IF, *part) for part in parts])
    assert torch.equal(gather_dot(p_UF, q_IF, users_B, items_B), expected)


@pytest.mark.parametrize("factors", [0, 1, 2, 3, 7, 48, 64, 257])
def test_the_sum_by_halves_does_not_depend_on_the_batch(factors: int) -> None:
    p_BF, q_BF = (torch.from_numpy(table) for table in tables(factors))
    sums_B = _halving_sum(p_BF * q_BF)
    torch.testing.assert_close(sums_B, (p_BF * q_BF).sum(-1), atol=1e-4, rtol=1e-4)
    alone = [_halving_sum(p_BF[[row]] * q_BF[[row]]) for row in range(ROWS)]
    assert torch.equal(torch.cat(alone), sums_B)


@pytest.mark.parametrize("factors", [0, 1, 7, 64])
def test_a_row_against_a_whole_table_and_norms_have_the_bits_of_pairs(factors: int) -> None:
    p_UF, q_IF = (torch.from_numpy(table) for table in tables(factors))
    rows_I = torch.arange(ROWS)
    assert torch.equal(dot_items(p_UF[5], q_IF), gather_dot(p_UF, q_IF, torch.full_like(rows_I, 5), rows_I))
    assert norms(q_IF).tolist() == np.sqrt(gather_dot(q_IF, q_IF, rows_I, rows_I).numpy()).tolist()
    assert torch.equal(norms(q_IF[9:12]), norms(q_IF)[9:12])


def test_a_row_that_does_not_exist_is_an_error() -> None:
    table = torch.zeros(3, 2)
    with pytest.raises(IndexError):
        gather_dot(table, table, torch.tensor([3]), torch.tensor([0]))


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_on_every_device(device: str, batch: int) -> None:
    rows = torch.zeros(batch, dtype=torch.int64, device=device)
    table = torch.zeros(3, 4, device=device)
    assert gather_dot(table, table, rows, rows).shape == (batch,)
    assert dot_items(table[0], table).shape == norms(table).shape == (3,)
