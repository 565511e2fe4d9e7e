"""Publishing a distributed model: the first rank gathers it and writes a checkpoint like any other.

Tables arrive in pieces and go into mapped files, so that the memory of the first rank does not have to hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from models.relevance import RelevanceHead
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
    """Gathers the rows of all ranks on the first one, in the order of the ranks. On the others it returns their own.

    `folder` gets the files that tensors are mapped from.
    """

    def __init__(self, group: Group, folder: Path) -> None:
        self._group = group
        self._folder = folder
        self._files = 0

    def whole(self, result: Result) -> WholeModel:
        """The model of all users. The prior is learned on the first rank; that of the others is empty."""
        model, seen, head = self.model(result.fitted.model), self.seen(result.seen), result.fitted.head
        return WholeModel(
            model=model,
            user_ids=self.ids(result.train_test.train.user_ids),
            seen=seen,
            prior=FoldInPrior.learn(model, seen) if self._group.first else FoldInPrior(*(torch.empty(0),) * 3),
            head=None if head is None else self.head(head),
        )

    def model(self, model: MatrixFactorization) -> MatrixFactorization:
        tables = dict(model.tensors())
        for name in ("user_factors", "user_bias", "user_variance"):
            if name in tables:
                tables[name] = self._with_last_row(tables[name])
        return MatrixFactorization(**tables)

    def head(self, head: RelevanceHead) -> RelevanceHead:
        return RelevanceHead(self._with_last_row(head.user_factors), head.item_factors, head.rule)

    def seen(self, seen: TrainingRatings) -> TrainingRatings:
        counts = self.rows(seen.offsets.diff()[:-1])
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0), counts.sum()[None]])
        return TrainingRatings(offsets, self.rows(seen.items_N), self.rows(seen.ratings_N))

    def ids(self, ids: pa.StringArray) -> pa.StringArray:
        texts = "".join(ids.to_pylist()).encode()
        lengths = np.array([len(text.encode()) for text in ids.to_pylist()], np.int64)
        every = self.rows(torch.frombuffer(bytearray(texts or b" "), dtype=torch.uint8)[: len(texts)])
        offsets = np.append(0, np.cumsum(self.rows(torch.from_numpy(lengths)).numpy()))
        large = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(every.numpy()))
        return large.cast(pa.string()) if offsets[-1] < 2**31 else large

    def rows(self, part: Tensor) -> Tensor:
        """Every rank's rows, one rank's after the other's, on the CPU."""
        part = part.detach().cpu().contiguous()
        sizes = [int(size) for size in self._group.stacked(torch.tensor(len(part)))]
        if not self._group.first:
            for piece in _pieces(part):
                dist.send(piece, 0)
                self._group.count("to the first", piece.nbytes)
            return part
        every = self._mapped(sum(sizes), part)
        every[: len(part)] = part
        begin = len(part)
        for rank, size in enumerate(sizes[1:], start=1):
            for piece in _pieces(every[begin : begin + size]):
                dist.recv(piece, rank)
            begin += size
        return every

    def _with_last_row(self, table: Tensor) -> Tensor:
        """A table whose last row, that of unknown ids, is the same on all ranks."""
        return self.rows(table[:-1] if self._group.rank < self._group.size - 1 else table)

    def _mapped(self, rows: int, like: Tensor) -> Tensor:
        """A tensor in a file that is mapped."""
        shape = (rows, *like.shape[1:])
        numbers = rows * int(np.prod(like.shape[1:]))
        if numbers == 0:
            return like.new_empty(shape)
        self._files += 1
        file = str(self._folder / f"{self._files}")
        return torch.from_file(file, shared=True, size=numbers, dtype=like.dtype).view(shape)


def _pieces(rows: Tensor) -> Iterator[Tensor]:
    """Parts of a tensor, in order, each small."""
    yield from rows.split(max(1, PIECE_BYTES // max(1, rows[:1].nbytes))) if len(rows) else ()
