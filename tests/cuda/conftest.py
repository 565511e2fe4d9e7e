"""The GPU of a test: a pretended one on every run, and a real one with `-m cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tests.support.pretended_cuda import PretendedCuda, pretended_cuda


class RealCuda:
    """The GPU of this machine."""

    @contextmanager
    def no_waits(self, *allowed: str) -> Iterator[None]:
        """As `PretendedCuda.no_waits`, by torch's own check, which cannot make exceptions: with some it is off."""
        torch.cuda.set_sync_debug_mode("default" if allowed else "error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.cuda)])
def gpu(request: pytest.FixtureRequest) -> Iterator[PretendedCuda | RealCuda]:
    if request.param == "real":
        yield RealCuda()
        return
    with pretended_cuda() as pretended:
        yield pretended


@pytest.fixture
def pretended() -> Iterator[PretendedCuda]:
    """The pretended one alone, which counts waits."""
    with pretended_cuda() as device:
        yield device
