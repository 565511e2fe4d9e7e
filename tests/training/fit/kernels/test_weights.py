"""Weighted ratings: one of weight 3 says what three of weight 1 say, on the CPU and in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from training.fit.kernels import als, gibbs_cpu, gibbs_torch
from training.fit.kernels.als_cpu import CpuRows
from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.grouping import Triplets, group

ROWS, COLUMNS, WIDTH, RATINGS = 30, 20, 8, 400


def ratings() -> tuple[Triplets, Triplets]:
    """Weighted ratings, and each repeated as often as its weight says."""
    rng = torch.Generator().manual_seed(0)
    rows_N, columns_N = (torch.randint(size, (RATINGS,), generator=rng).int() for size in (ROWS, COLUMNS))
    values_N, weights_N = torch.randn(RATINGS, generator=rng), torch.randint(1, 5, (RATINGS,), generator=rng)
    repeated = [column_N.repeat_interleave(weights_N) for column_N in (rows_N, columns_N, values_N)]
    return Triplets(rows_N, columns_N, values_N, ROWS, COLUMNS, weights_N.float()), Triplets(*repeated, ROWS, COLUMNS)


def table(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["cpu", "torch"])
def test_rows_of_als(kind: str) -> None:
    step, solved = HalfStep(table(COLUMNS, 1), torch.full((ROWS,), 0.7), 0.3), []
    for each in ratings():
        rows = CpuRows(group(each, threads=2)) if kind == "cpu" else als.TorchRows(each, WIDTH)
        out_RK = torch.zeros(ROWS, WIDTH)
        error = rows.solve(step, out_RK)
        solved.append((out_RK, error.double()))
    for weighted, repeated in zip(*solved, strict=True):
        torch.testing.assert_close(weighted, repeated, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    "make", [gibbs_cpu.CpuRows, lambda each: gibbs_torch.TorchRows(each, WIDTH)], ids=["cpu", "torch"]
)
def test_sums_and_errors_of_the_gibbs_sampler(make: Callable[[Triplets], Any]) -> None:
    own_RK, other_CK, weight_C = table(ROWS, 1), table(COLUMNS, 2), table(COLUMNS, 3)[:, 0].abs()
    weighted, repeated = (make(each) for each in ratings())
    for ours, theirs in zip(weighted.gram(other_CK, weight_C), repeated.gram(other_CK, weight_C), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    ours, theirs = (rows.errors(own_RK, other_CK, weight_C) for rows in (weighted, repeated))
    torch.testing.assert_close(ours[:, 0], theirs[:, 0])
    plain = make(ratings()[0]._replace(weights_N=None)).errors(own_RK, other_CK, weight_C)
    torch.testing.assert_close(ours[:, 1], plain[:, 1])
