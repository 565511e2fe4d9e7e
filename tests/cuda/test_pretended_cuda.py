"""The pretended device refuses what it is there to refuse, so that the tests that run on it can fail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.pretended_cuda import PretendedCuda, WaitsForDeviceError

WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "a branch": lambda x: 1 if (x > 0).all() else 2,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to the host": lambda x: x.to("cpu"),
    "to the host and another type": lambda x: x.to("cpu", torch.float64),
    "copied into a tensor of the host": lambda x: torch.empty(3, 4).copy_(x),
    "from the host": lambda x: torch.ones(3).to(x.device),
    "from an array": lambda x: torch.from_numpy(np.ones(3)).to(x.device),
    "from a list": lambda x: torch.tensor([1, 2], device=x.device),
    "copied from the host": lambda x: x.copy_(torch.ones(3, 4)),
    "to another GPU": lambda x: x.to("cuda:1"),
    "a mask": lambda x: x[x > 0],
    "rows of the host": lambda x: x[torch.tensor([0, 1])],
    "written through a mask": lambda x: x.__setitem__(x > 0, x[0, 0]),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: torch.bincount(x[0].long()),
    "repeat_interleave": lambda x: x[0].repeat_interleave(x[0].long()),
    "equal": lambda x: torch.equal(x, x),
    "svd": torch.linalg.svd,
    "eigh": lambda x: torch.linalg.eigh(x[:, :3]),
}
FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x @ x.T + 1).exp().sum(),
    "with a number of the host": lambda x: x * torch.tensor(2.0),
    "gathered": lambda x: x[x[:, 0].long() - 1],
    "written": lambda x: x.__setitem__((slice(None), -1), 3.0),
    "written through a mask, a number": lambda x: x.__setitem__(x > 0, 3.0),
    "made": lambda x: torch.zeros(3, device=x.device) + torch.arange(3, device="cuda") + x.new_zeros(3),
    "repeated to a size that is known": lambda x: x[0].repeat_interleave(x[0].long(), output_size=4),
    "cholesky": lambda x: torch.linalg.cholesky_ex(x[:, :3]),
    "drawn": lambda x: torch.randn(3, device=x.device, generator=torch.Generator("cuda")),
    "to where it is": lambda x: x.to("cuda").to(torch.float64),
}
MIXED: dict[str, Callable[[Tensor], object]] = {
    "sum": lambda x: x + torch.ones(4),
    "product": lambda x: x @ torch.ones(4, 4),
    "cat": lambda x: torch.cat([x, torch.ones(1, 4)]),
    "index_add": lambda x: x.index_add_(0, torch.tensor([0]), x[:1]),
    "out": lambda x: torch.mm(x, x.T, out=torch.empty(3, 3)),
    "two GPUs": lambda x: x + x.to("cuda:1"),
    "an array": lambda x: x.numpy(),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_raises_where_it_must_not_and_is_counted_elsewhere(pretended: PretendedCuda, name: str) -> None:
    x = torch.ones(3, 4, device="cuda")
    WAITING[name](x)
    assert pretended.waits
    with pretended.no_waits(), pytest.raises(WaitsForDeviceError):
        WAITING[name](x)


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_passes(pretended: PretendedCuda, name: str) -> None:
    x = torch.ones(3, 4, device="cuda")
    with pretended.no_waits():
        FREE[name](x)
    assert pretended.waits == []


@pytest.mark.parametrize("name", MIXED)
def test_devices_are_not_mixed(pretended: PretendedCuda, name: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"same device|cuda:0"):
        MIXED[name](torch.ones(3, 4, device="cuda"))


def test_values_are_real_and_say_where_they_are(pretended: PretendedCuda) -> None:
    x = torch.arange(4.0, device="cuda")
    assert (x.device, x.is_cuda, x.double().device, x.cpu().device) == (
        torch.device("cuda:0"),
        True,
        torch.device("cuda:0"),
        torch.device("cpu"),
    )
    x[1:] += 10
    assert x.tolist() == [0, 11, 12, 13]


def test_a_shape_that_is_changed_in_place_is_changed(pretended: PretendedCuda) -> None:
    x = torch.ones(1, 4, device="cuda").squeeze_(0)
    assert x.shape == (4,)
    assert (x @ torch.ones(4, 2, device="cuda")).tolist() == [4, 4]


def test_a_graph_is_recorded_without_running_and_replayed(pretended: PretendedCuda) -> None:
    x, total = torch.ones(3, device="cuda"), torch.zeros((), device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = 2 * x
        total += doubled.sum()
    assert total.item() == 0
    graph.replay()
    x.fill_(5)
    graph.replay()
    assert total.item() == 2 * 3 + 10 * 3
    assert doubled.tolist() == [10, 10, 10]


def test_a_graph_that_waits_cannot_be_recorded(pretended: PretendedCuda) -> None:
    x = torch.ones(3, device="cuda")
    with pytest.raises(WaitsForDeviceError), torch.cuda.graph(torch.cuda.CUDAGraph()):
        float(x.sum())
