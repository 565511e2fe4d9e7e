"""Publishing a distributed model: the first rank gathers it and writes a checkpoint like any other.

Tables arrive in pieces and go into mapped files, so that the memory of the first rank does not have to hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor

from models.checkpoint.writer import Draft
from models.errors import PublicationError
from models.fold_in import FoldInPrior
from models.mf import MatrixFactorization
from models.registry.directory import publish
from models.training_ratings import TrainingRatings
from training.distributed.group import Group
from training.results import Result, WholeModel

PIECE_BYTES = 1 << 24


def publish_gathered(
    group: Group, out: Path, result: Result, draft: Callable[[WholeModel], Draft], *, activate: bool
) -> str:
    """Gather the model on the first rank, publish it there, and return its version on every rank.

    `draft` is called on every rank. Raises PublicationError on every rank if the first cannot write.
    """
    failure, version = None, ""
    with TemporaryDirectory(prefix="ratecast-") as folder:
        drafted = draft(Collector(group, Path(folder)).whole(result))
        try:
            if group.first:
                version = publish(out, drafted, activate=activate).version
        except PublicationError as error:
            failure = error
        del drafted
    failure, version = group.agreed((failure, version))
    if failure is not None:
        raise failure
    return version


class Collector:
    """Gathers the rows of all ranks on the first one, in their order, into mapped files in `folder`.

    On the other ranks it returns their own rows.
    """

    def __init__(self, group: Group, folder: Path) -> None:
        self._group, self._folder, self._files = group, folder, 0

    def whole(self, result: Result) -> WholeModel:
        """The model of all users. The prior is learned on the first rank; that of the others is empty."""
        model, seen, head = self.model(result.fitted.model), self.seen(result.seen), result.fitted.head
        if head is not None:
            head = replace(head, user_factors=self._with_last_row(head.user_factors))
        return WholeModel(
            model=model,
            user_ids=self.ids(result.train_test.train.user_ids),
            seen=seen,
            prior=FoldInPrior.learn(model, seen) if self._group.first else FoldInPrior(*(torch.empty(0),) * 3),
            head=head,
        )

    def model(self, model: MatrixFactorization) -> MatrixFactorization:
        tables = model.tensors()
        return MatrixFactorization(
            **{name: self._with_last_row(table) if name.startswith("user") else table for name, table in tables.items()}
        )

    def seen(self, seen: TrainingRatings) -> TrainingRatings:
        counts = self.rows(seen.offsets.diff()[:-1])
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0), counts.sum()[None]])
        return TrainingRatings(offsets, self.rows(seen.items_N), self.rows(seen.ratings_N))

    def ids(self, ids: pa.StringArray) -> pa.StringArray:
        texts = [text.encode() for text in ids.to_pylist()]
        lengths = self.rows(torch.tensor([len(text) for text in texts], dtype=torch.int64))
        every = self.rows(
            torch.frombuffer(bytearray(b"".join(texts) or b" "), dtype=torch.uint8)[: sum(map(len, texts))]
        )
        offsets = np.append(0, np.cumsum(lengths.numpy()))
        large = pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(every.numpy()))
        return large.cast(pa.string()) if offsets[-1] < 2**31 else large

    def rows(self, part: Tensor) -> Tensor:
        """Every rank's rows, one rank's after the other's, on the CPU."""
        part = part.detach().cpu().contiguous()
        sizes = self._group.stacked(torch.tensor(len(part))).tolist()
        if not self._group.first:
            for piece in _pieces(part):
                dist.send(piece, 0)
                self._group.count("to the first", piece.nbytes)
            return part
        every = self._mapped(sum(sizes), part)
        own, *others = every.split(sizes)
        own.copy_(part)
        for rank, rows in enumerate(others, start=1):
            for piece in _pieces(rows):
                dist.recv(piece, rank)
        return every

    def _with_last_row(self, table: Tensor) -> Tensor:
        """A table whose last row, that of unknown ids, is the same on all ranks."""
        return self.rows(table[:-1] if self._group.rank < self._group.size - 1 else table)

    def _mapped(self, rows: int, like: Tensor) -> Tensor:
        """A tensor in a file that is mapped."""
        numbers = rows * like.shape[1:].numel()
        if numbers == 0:
            return like.new_empty(rows, *like.shape[1:])
        self._files += 1
        file = str(self._folder / f"{self._files}")
        return torch.from_file(file, shared=True, size=numbers, dtype=like.dtype).view(rows, *like.shape[1:])


def _pieces(rows: Tensor) -> Iterator[Tensor]:
    """Parts of a tensor, in order, each small."""
    yield from rows.split(max(1, PIECE_BYTES // max(1, rows[:1].nbytes))) if len(rows) else ()
