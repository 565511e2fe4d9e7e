"""The ranks that torchrun starts, on torch.distributed: NCCL between GPUs, gloo between CPUs.

Every byte that a rank sends goes through here and is counted, so that tests can check `docs/scaling.md`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from models.devices import choose_device
from training.communicator import Communicator, Span
from training.device import available_memory
from training.launch import ranks_here

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # for the slowest rank, which may still be reading


class Group(Communicator):
    """All ranks of a distributed job.

    Attributes:
        sent: bytes that this rank has sent, by kind of collective, without headers and the objects that ranks agree on.
        device: of the tensors that a collective over NCCL takes.
        item_bytes: the most that a copy of the other side's rows may take on this rank.
    """

    thread_safe = False

    def __init__(self, device: torch.device, item_bytes: int) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.device, self.item_bytes = device, item_bytes
        self.sent: dict[str, int] = {}

    @property
    def sent_bytes(self) -> int:
        """Bytes that this rank has sent to the others so far."""
        return sum(self.sent.values())

    def sum(self, values: Tensor) -> Tensor:
        return self._reduced(values, dist.ReduceOp.SUM)

    def least(self, values: Tensor) -> Tensor:
        return self._reduced(values, dist.ReduceOp.MIN)

    def gathered(self, rows_RK: Tensor, span: Span) -> Tensor:
        every = self.stacked(_padded(rows_RK, span.longest))
        if all(start == min(rank * span.longest, span.total) for rank, start in enumerate(span.bounds)):
            return every.flatten(0, 1)[: span.total]
        sizes = [stop - start for start, stop in pairwise(span.bounds)]
        return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])

    def stacked(self, values: Tensor) -> Tensor:
        """Every rank's tensor, all of one shape, along a new first dimension."""
        values = values.contiguous()
        every = values.new_empty(self.size, *values.shape)
        dist.all_gather_single(every.view(self.size, -1).flatten(), values.flatten())
        self.count("all-gather", values.nbytes * (self.size - 1))
        return every

    def swapped(self, values_R: Tensor) -> Tensor:
        """Entry s of the result is entry `rank` of rank s's tensor, (ranks, …) as the one given."""
        values_R = values_R.contiguous()
        result = torch.empty_like(values_R)
        dist.all_to_all_single(result, values_R)
        self.count("all-to-all", values_R.nbytes // self.size * (self.size - 1))
        return result

    def exchanged(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Send a tensor to each rank, and return what each sends to this one. All have one dtype and row shape."""
        out = [len(part) for part in parts]
        into = self.swapped(torch.tensor(out)).tolist()
        return list(self.passed(torch.cat(list(parts)), out, into).split(into))

    def passed(self, rows: Tensor, out: list[int], into: list[int]) -> Tensor:
        """Send the first `out[0]` rows to the first rank and so on; return `into[0]` rows of the first and so on."""
        result = rows.new_empty(sum(into), *rows.shape[1:])
        dist.all_to_all_single(result, rows.contiguous(), into, out)
        self.count("all-to-all", rows[:1].nbytes * (sum(out) - out[self.rank]))
        return result

    def moved(self, rows: Tensor, there: Span, here: Span) -> Tensor:
        """Move the rows of all ranks from one division into spans to another."""
        out = [max(0, min(there.stop, stop) - max(there.start, start)) for start, stop in pairwise(here.bounds)]
        into = [max(0, min(here.stop, stop) - max(here.start, start)) for start, stop in pairwise(there.bounds)]
        return self.passed(rows, out, into)

    def agreed(self, value: T) -> T:
        held: list[T] = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def from_first(self, values: Tensor) -> Tensor:
        return self.sum(values if self.first else torch.zeros_like(values))

    def pooled(self, mean: float, weight: int) -> float:
        sums = self.sum(torch.tensor([mean * weight if weight else 0.0, weight], dtype=torch.float64))
        return float(sums[0] / sums[1])

    def row_mean(self, table_RK: Tensor, total: int) -> Tensor:
        return (self.sum(table_RK.sum(0, dtype=torch.float64)) / total).to(table_RK.dtype)

    def row_variance(self, table_RK: Tensor, total: int) -> Tensor:
        return self.row_mean((table_RK - self.row_mean(table_RK, total)).square(), total)

    def qr(self, rows_RK: Tensor) -> tuple[Tensor, Tensor]:
        """A QR of the R factors of all ranks (TSQR, Demmel et al. 2012)."""
        basis_RK, core_KK = torch.linalg.qr(rows_RK)
        width = rows_RK.shape[1]
        joint, core_KK = torch.linalg.qr(self.stacked(_padded(core_KK, width)).flatten(0, 1))
        joint, core_KK = self.from_first(joint), self.from_first(core_KK)
        begin = self.rank * width
        return basis_RK @ joint[begin : begin + basis_RK.shape[1]], core_KK

    def with_average_row(self, table_RK: Tensor, counts_R: Tensor) -> Tensor:
        weights_R = (counts_R / self.sum(counts_R.sum()).clamp(min=1)).to(table_RK.dtype)
        average_K = self.sum(torch.tensordot(weights_R, table_RK, dims=1))
        return torch.cat([table_RK, average_K[None]])

    def all_objects(self, mine: T) -> list[T]:
        content = io.BytesIO()
        torch.save(mine, content)
        bytes_N = torch.frombuffer(content.getbuffer(), dtype=torch.uint8)
        sizes = self.stacked(torch.tensor(len(bytes_N))).tolist()
        every = self.stacked(_padded(bytes_N, max(sizes)))
        return [self._loaded(part_N[:size]) for part_N, size in zip(every, sizes, strict=True)]

    def _loaded(self, bytes_N: Tensor) -> Any:
        """What another rank has saved; tensors of its GPU come to this one."""
        here = {f"cuda:{number}": str(self.device) for number in range(torch.cuda.device_count())}
        return torch.load(io.BytesIO(bytes_N.numpy().tobytes()), here, weights_only=True)

    def count(self, kind: str, sent: int) -> None:
        """Add to the bytes that this rank has sent to the others."""
        self.sent[kind] = self.sent.get(kind, 0) + sent

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        result = values.clone().contiguous()
        dist.all_reduce(result, operation)
        self.count("all-reduce", 2 * result.nbytes // self.size * (self.size - 1))
        return result


@contextmanager
def joined(name: str, item_bytes: int | None) -> Iterator[Group]:
    """Join the other ranks on the device that `--device` names (a GPU of its own), and leave them at the end.

    `item_bytes` is the most that a copy of all items' rows may take on a rank; None for a quarter of what is free.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    device = choose_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _meet("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(device, free_memory(device) // 4 if item_bytes is None else item_bytes)
        dist.barrier()  # a rank that leaves while another is still connecting is aborted
    finally:
        with suppress(RuntimeError, ValueError):
            dist.destroy_process_group()


def free_memory(device: torch.device) -> int:
    """Bytes that this rank may take: on the CPU the ranks of a host share what is free there."""
    return available_memory(device) // (ranks_here() if device.type == "cpu" else 1)


def _meet(backend: str) -> None:
    """Join the group of this attempt: the store survives restarts, with the addresses of ranks that have died."""
    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    attempt = f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{size}"
    fresh = PrefixStore(attempt, store)
    dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=TIMEOUT)


def positions(labels_N: Tensor, labels: int) -> list[Tensor]:
    """For each label, 0 to `labels`, where it stands, ascending."""
    return list(labels_N.argsort(stable=True).split(torch.bincount(labels_N, minlength=labels).tolist()))


def _padded(rows_RK: Tensor, length: int) -> Tensor:
    if len(rows_RK) == length:
        return rows_RK
    return torch.cat([rows_RK, rows_RK.new_zeros(length - len(rows_RK), *rows_RK.shape[1:])])
