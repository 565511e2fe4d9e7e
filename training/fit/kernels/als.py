"""Alternating least squares on whichever device the ratings are. Shapes: N ratings."""

from __future__ import annotations

import torch
from torch import Tensor

from training.fit.kernels.als_cpu import CpuRows
from training.fit.kernels.als_rows import Rows
from training.fit.kernels.als_torch import TorchRows
from training.fit.kernels.grouping import group


def group_rows(
    rows_N: Tensor,
    columns_N: Tensor,
    ratings_N: Tensor,
    rows: int,
    columns: int,
    *,
    width: int,
    shift: float = 0.0,
    scale: float = 1.0,
) -> Rows:
    """The ratings grouped by row, each as (rating − shift) · scale; `width` is that of the tables."""
    if ratings_N.device.type != "cpu":
        values_N = ((ratings_N - shift) * scale).float()
        return TorchRows(rows_N, columns_N, values_N, rows=rows, columns=columns, width=width)
    threads = torch.get_num_threads()
    ratings = (rows_N.numpy(), columns_N.numpy(), ratings_N.numpy())
    return CpuRows(group(*ratings, rows=rows, shift=shift, scale=scale, threads=threads), threads=threads)
