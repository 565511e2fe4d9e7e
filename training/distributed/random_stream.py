"""Random numbers that a row gets whichever rank it is on, so that any number of ranks draws the same chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from training.communicator import BLOCK, LocalRows, Span
from training.fit.kernels.gibbs import RandomStream


class RowStream(RandomStream):
    """On the CPU every block of rows has a generator of its own. On CUDA every rank has one, and numbers differ."""

    def row_normal(self, local: LocalRows, width: int) -> Tensor:
        if self._cuda is not None:
            return self._of_this_rank(local, lambda stream: stream.normal(len(local.span), width))
        blocks = [
            generator.standard_normal((len(rows), width), dtype=np.float32)
            for rows, generator in self._blocks(local.span)
        ]
        return torch.from_numpy(np.concatenate([np.empty((0, width), np.float32), *blocks]))

    def row_gamma(self, local: LocalRows, shape_R: Tensor) -> Tensor:
        if self._cuda is not None:
            return self._of_this_rank(local, lambda stream: stream.gamma(shape_R))
        blocks = [
            generator.standard_gamma(shape_R[rows.start : rows.stop].numpy())
            for rows, generator in self._blocks(local.span)
        ]
        return torch.from_numpy(np.concatenate([np.empty(0), *blocks]))

    def _blocks(self, span: Span) -> Iterator[tuple[range, np.random.Generator]]:
        """Rows of the span, counted from 0, each block with the generator of this call and of the block."""
        self._calls += 1
        for begin in range(span.start, span.stop, BLOCK):
            counter = [0, 1 + begin // BLOCK, self._calls, self._sweep]
            rows = range(begin - span.start, min(begin + BLOCK, span.stop) - span.start)
            yield rows, np.random.Generator(np.random.Philox(key=self._key, counter=counter))

    def _of_this_rank(self, local: LocalRows, draw: Callable[[RandomStream], Tensor]) -> Tensor:
        """Numbers that no other rank draws."""
        self._calls += 1
        own = RowStream(int(self._key[0]) ^ (self._calls << 32), int(self._key[1]), self._sweep, self._device)
        own._cuda.manual_seed(int(own._host.integers(2**62)) + local.span.rank)  # type: ignore[union-attr]
        return draw(own)
