"""Saves the state of a distributed fit, so that an interrupted fit resumes where it stopped, with any number of ranks.

Every rank writes its part of a checkpoint of torch.distributed, into a directory that keeps the last two of them. A
checkpoint that is still being written has another name, and nothing reads it. Shapes: N probes here.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from training.communicator import Span
from training.constants import SAVE_SECONDS
from training.distributed.group import Group, positions
from training.errors import ConfigError
from training.fit.fit_state import FitState
from training.fit.loop import Epoch
from training.fit.trainer import Trainer, TrainingSet

FACTS, PART, KEPT = "fit.json", ".part", 2
TABLES = ("mean.left", "mean.right", "mean.user_bias", "mean.item_bias")
PROBES, MOMENTS = "spread.probes", "spread.moments"


@dataclass(slots=True)
class FitStateDirectory(FitState):
    """The saved states of a distributed fit, in a directory that all ranks can access. Every rank makes the same calls.

    `fit` and `every` are those of a `FitStateFile`.
    """

    directory: Path
    fit: str
    group: Group
    every: float = SAVE_SECONDS
    _saved_at: float = field(default_factory=time.monotonic)

    def restore(self, trainer: Trainer[Any]) -> list[Epoch]:
        saved = self._saved()
        last = self.group.agreed(saved[-1].name if saved else None)
        if last is None:
            return []
        try:
            facts = json.loads((self.directory / last / FACTS).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.directory / last} is not a saved fit: {error}") from error
        if facts["fit"] != self.fit:
            raise ConfigError(f"{self.directory} is the state of another fit, with other data, settings or seed")
        before, now = facts.get("shared", "users"), shared(trainer)
        if before != now:
            raise ConfigError(
                f"in {self.directory} the ranks shared the {before}; now they share the {now}, because the free memory "
                "has changed: provide as much free memory as before, or name another directory"
            )
        trainer.restore(state_of_rows(self._read(self.directory / last, trainer), trainer.data, self.group))
        return [Epoch(**epoch) for epoch in facts["history"]]

    def save(self, trainer: Trainer[Any], history: Sequence[Epoch]) -> None:
        if not self.group.agreed(time.monotonic() - self._saved_at >= self.every):
            return
        name = f"sweep-{len(history):06d}"
        part = self.directory / f"{name}{PART}"
        if self.group.first:
            shutil.rmtree(part, ignore_errors=True)
            self.directory.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        with warnings.catch_warnings(action="ignore"):  # torch warns of its own storage classes
            save(self._sharded_state(trainer), storage_writer=FileSystemWriter(part, overwrite=True))
        if self.group.first:
            facts = {"fit": self.fit, "shared": shared(trainer), "history": [asdict(epoch) for epoch in history]}
            (part / FACTS).write_text(json.dumps(facts), "utf-8")
            shutil.rmtree(self.directory / name, ignore_errors=True)
            part.rename(self.directory / name)
            for old in self._saved()[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        dist.barrier()
        if self.group.first:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _saved(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return sorted(entry for entry in self.directory.glob("sweep-*") if entry.suffix != PART)

    def _sharded_state(self, trainer: Trainer[Any]) -> dict[str, Tensor]:
        """The state in equal blocks of rows, a block on each rank, which other numbers of ranks can read."""
        state: dict[str, Tensor] = {}
        for name, tensor in rows_of_state(trainer.state(), trainer.data).items():
            state[name] = tensor.detach().cpu().contiguous()
            span = self._span(trainer, name, state[name])
            if span is not None:
                even = Span.even(span.total, self.group)
                state[name] = self._sharded(self.group.moved(state[name], span, even), even.total)
        return state

    def _read(self, saved: Path, trainer: Trainer[Any]) -> dict[str, Tensor]:
        """The rows of this rank."""
        state: dict[str, Tensor] = {}
        for name, facts in FileSystemReader(saved).read_metadata().state_dict_metadata.items():
            if not isinstance(facts, TensorStorageMetadata):
                raise ConfigError(f"{saved} is not a saved fit: {name} is not a tensor")
            by_row = trainer.side_of(name) is not None and trainer.data.everything is None
            rows = [len(Span.even(facts.size[0], self.group))] if by_row else facts.size[:1]
            state[name] = torch.zeros([*rows, *facts.size[1:]], dtype=facts.properties.dtype)
            if by_row:
                state[name] = self._sharded(state[name], facts.size[0])
        with warnings.catch_warnings(action="ignore"):
            load(state, storage_reader=FileSystemReader(saved))
        for name, tensor in state.items():
            if isinstance(tensor, DTensor):
                even, block = Span.even(len(tensor), self.group), tensor.to_local()
                state[name] = self.group.moved(block, even, self._span(trainer, name, block) or even)
        return {name: tensor.to(trainer.data.device) for name, tensor in state.items()}

    def _sharded(self, rows: Tensor, total: int) -> DTensor:
        mesh = DeviceMesh("cpu", list(range(self.group.size)))
        shape = torch.Size([total, *rows.shape[1:]])
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)

    def _span(self, trainer: Trainer[Any], name: str, tensor: Tensor) -> Span | None:
        """Which rows of a tensor are here; None if it is the same on all ranks."""
        side, data = trainer.side_of(name), trainer.data
        if data.everything is not None:
            return None
        if side != "other":
            return {"user": data.user_span, "item": data.item_span, None: None}[side]
        counts = self.group.stacked(torch.tensor(len(tensor))).tolist()
        return Span(tuple(accumulate(counts, initial=0)), self.group.rank)


def shared(trainer: Trainer[Any]) -> str:
    """What the ranks of a fit share."""
    return "users" if trainer.data.everything is None else "chains"


def rows_of_state(state: Mapping[str, Tensor], data: TrainingSet) -> dict[str, Tensor]:
    """A trainer's state as rows of users, of items and of probes, from which any number of ranks can resume.

    Only the posterior of `bayes` is not made of such rows. Its tables have one row more, for unknown ids, which is kept
    beside the table. Its probes get the numbers that all users have. Where ranks share the chains, the state is the
    same on all of them, and stays as it is.
    """
    rows = dict(state)
    if PROBES in rows and data.everything is None:
        for name in TABLES:
            rows[name], unknown_1K = state[name][:-1], state[name][-1:]
            rows[f"{name}.unknown"] = data.communicator.from_first(unknown_1K)
        users_N, items_N = state[PROBES]
        everywhere_N = torch.where(users_N == data.users, data.user_span.total, users_N + data.user_span.start)
        rows[PROBES], rows[MOMENTS] = torch.stack([everywhere_N, items_N], dim=1), state[MOMENTS].T.contiguous()
    return rows


def state_of_rows(rows: Mapping[str, Tensor], data: TrainingSet, group: Group) -> dict[str, Tensor]:
    """The trainer's state on this rank. A probe goes to the rank that has its user."""
    state, span = dict(rows), data.user_span
    if PROBES in rows and data.everything is None:
        for name in TABLES:
            unknown_1K = state.pop(f"{name}.unknown")
            if not group.first and not name.endswith("bias"):  # which counts on the first rank alone
                unknown_1K = torch.zeros_like(unknown_1K)
            state[name] = torch.cat([rows[name], unknown_1K])
        bounds = torch.tensor(span.bounds[1:-1], device=rows[PROBES].device)
        parts = positions(torch.bucketize(rows[PROBES][:, 0], bounds, right=True), group.size)
        probes_N2, moments_N3 = (
            torch.cat(group.exchanged([rows[name][part] for part in parts])) for name in (PROBES, MOMENTS)
        )
        users_N = torch.where(probes_N2[:, 0] == span.total, data.users, probes_N2[:, 0] - span.start)
        state[PROBES], state[MOMENTS] = torch.stack([users_N, probes_N2[:, 1]]), moments_N3.T.contiguous()
    return state
