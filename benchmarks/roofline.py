"""How long each kernel may take on a GPU at best: its bytes, its flops and its launches, counted from shapes.

    python -m benchmarks.roofline [--bandwidth 3.35e12] [--float32 67e12] [--float64 34e12] [--launch 3e-6]

Runs the kernels for CUDA on tensors that have shapes and no values, and counts what each operation reads, writes and
computes. An operation takes the longest of its bytes ÷ bandwidth, its flops ÷ rate and a launch; the sum is what to
expect. The defaults are NVIDIA's figures of an H100 SXM. Nothing here is measured. It needs no GPU.
Shapes: R rows, N ratings, K width of a table, S segments of a bucket, L their length.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from models.block_search import BLOCK_CELLS, MIN_BLOCK_ROWS, STRETCH, write_products
from models.scoring import BilinearForm, Side
from tests.support.data import planted_set
from training.communicator import SINGLE_PROCESS, LocalRows, Span
from training.config import load_preset
from training.fit.kernels import als, gibbs, gibbs_torch
from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.buckets import Bucket, bucket_ends, padded_length
from training.fit.kernels.tiles import padded_width
from training.fit.trainers.adam import Adam

aten = torch.ops.aten
META = torch.device("meta")
SPREAD = 1.0  # of the logarithms of how many ratings a row has, which is about that of MovieLens' users
SETS = {
    "ml-1m": (6_040, 3_706, 1_000_209),
    "25 million": (162_541, 59_047, 25_000_095),
    "100 million": (480_189, 17_770, 100_480_507),
}
ITEMS, FACTORS, LIST = 1_000_000, 64, 10
BATCHES = (1, 32, 256)
GATHERS = frozenset((aten.index, aten.index_select))
SCATTERS = frozenset((aten.index_put_, aten.index_put, aten._index_put_impl_, aten.index_add_))
NOTHING = frozenset((aten.empty, aten.new_empty, aten.empty_like, aten.detach, aten.lift_fresh))


@dataclass(frozen=True)
class Machine:
    """What a GPU can do: bytes and flops a second, and seconds for a launch."""

    bandwidth: float
    float32: float
    float64: float
    launch: float


@dataclass
class Work:
    """What was counted, and the seconds that follow from it."""

    moved: int = 0
    flops: int = 0
    launches: int = 0
    seconds: float = 0.0


class Counting(TorchDispatchMode):
    """Counts the work of all operations. A view is none."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine, self.work = machine, Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in NOTHING or _is_view(func):
            return found
        moved, flops = _bytes(func, args, found), _flops(packet, args, kwargs or {}, found)
        double = any(tensor.dtype == torch.float64 for tensor in _tensors(found))
        rate = self.machine.float64 if double else self.machine.float32
        self.work.moved += moved
        self.work.flops += flops
        self.work.launches += 1
        self.work.seconds += max(moved / self.machine.bandwidth, flops / rate, self.machine.launch)
        return found


def _is_view(func: Any) -> bool:
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _tensors(part)


def _size(*trees: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(trees))


def _bytes(func: Any, args: Any, found: Any) -> int:
    """What is read and written. Of a table that is gathered from only the rows that are asked for."""
    packet = func.overloadpacket
    if packet in GATHERS:
        return _size(args[1:]) + 2 * _size(found)
    if packet in SCATTERS:
        return _size(args[1:]) + 2 * _size(args[-1] if packet is aten.index_add_ else args[2])
    if packet is aten._embedding_bag_forward_only:
        return _size(args[1:3]) + args[1].numel() * args[0].shape[1] * args[0].element_size() + _size(found[0])
    written = [value for argument, value in zip(func._schema.arguments, args, strict=False) if _is_written(argument)]
    return _size(args) + (_size(written) if written else _size(found))


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _flops(packet: Any, args: Any, kwargs: Any, found: Any) -> int:
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **{k: v for k, v in kwargs.items() if k != "out"}, out_val=found))
    if packet is aten.mv:
        return 2 * args[0].numel()
    if packet is aten.linalg_cholesky_ex:
        return args[0].numel() * args[0].shape[-1] // 3
    if packet is aten.cholesky_solve:
        return 2 * args[1].numel() * args[0].shape[-1]
    if packet is aten.linalg_solve_triangular:
        return args[0].numel() * args[1].shape[-1]
    if packet is aten._embedding_bag_forward_only:
        return args[1].numel() * args[0].shape[1]
    return sum(tensor.numel() for tensor in _tensors(found))


class Ratings(NamedTuple):
    """How many ratings each row of one side has, and how many columns there are."""

    counts_R: Tensor
    columns: int

    @classmethod
    def of(cls, rows: int, columns: int, ratings: int) -> Ratings:
        weights_R = np.random.default_rng(0).lognormal(0, SPREAD, rows)
        counts_R = np.minimum(np.maximum(weights_R * ratings / weights_R.sum(), 1), columns)
        return cls(torch.from_numpy(counts_R.round().astype(np.int64)), columns)


def bucket_shapes(ratings: Ratings, width: int, elements: int) -> list[Bucket]:
    """The buckets that `training.fit.kernels.buckets` makes of such ratings, without values."""
    counts_R = ratings.counts_R.sort().values
    lengths_R = padded_length(counts_R)
    segments_R = -(-counts_R // lengths_R)
    ends = bucket_ends(lengths_R.tolist(), segments_R.tolist(), width, elements)
    found, empty = [], partial(torch.empty, device=META)
    for first, last in zip([0, *ends], ends, strict=False):
        segments, length = int(segments_R[first:last].sum()), int(lengths_R[first])
        rows_B, owners_S = (empty(size, dtype=torch.int64) for size in (last - first, segments))
        columns_SL = empty(segments, length, dtype=torch.int32)
        found.append(Bucket(rows_B, owners_S, columns_SL, empty(segments, length)))
    return found


def als_rows(ratings: Ratings, width: int) -> als.TorchRows:
    rows = als.TorchRows.__new__(als.TorchRows)
    rows.buckets = bucket_shapes(ratings, width, als.BATCH_ELEMENTS)
    return rows


def gibbs_rows(ratings: Ratings, width: int) -> gibbs_torch.TorchRows:
    rows, n = gibbs_torch.TorchRows.__new__(gibbs_torch.TorchRows), int(ratings.counts_R.sum())
    indices = partial(torch.empty, dtype=torch.int64, device=META)
    vars(rows).update(
        _rows=len(ratings.counts_R),
        _ratings=(indices(n), indices(n), torch.empty(n, device=META)),
        _starts_R=indices(len(ratings.counts_R) + 1),
        _rows_by_column_N=indices(n),
        _starts_C=indices(ratings.columns + 1),
        _buckets=bucket_shapes(ratings, width, gibbs_torch.BATCH_ELEMENTS),
    )
    return rows


class Stream(gibbs.RandomStream):
    """Random numbers without values."""

    def __init__(self) -> None:
        pass

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=META)

    def gamma(self, shape_R: Tensor) -> Tensor:
        return torch._standard_gamma(shape_R)


def als_sweep(users: int, items: int, ratings: int, width: int, *, biased: bool) -> None:
    """Every row of both sides once; without biases it is a sweep of the relevance head."""
    for rows, columns in ((users, items), (items, users)):
        solver = als_rows(Ratings.of(rows, columns, ratings), width)
        other_CK, out_RK = (torch.empty(size, width, device=META) for size in (columns, rows))
        prior_KK = None if biased else other_CK.T @ other_CK
        solver.solve(HalfStep(other_CK, torch.empty(rows, device=META), 1.0 if biased else None, prior_KK), out_RK)


def gibbs_sweep(users: int, items: int, ratings: int, width: int) -> None:
    """One sweep of one chain with implicit effects and weights."""
    sides = []
    for rows, columns in ((users, items), (items, users)):
        given = Ratings.of(rows, columns, ratings)
        local = LocalRows(SINGLE_PROCESS, Span.whole(rows))
        counts_R = torch.empty(rows, dtype=torch.int64, device=META)
        sides.append(gibbs.start_side(gibbs_rows(given, width), counts_R, None, width, Stream(), local))
    precision = torch.ones((), dtype=torch.float64, device=META)
    gibbs.Chain(sides[0], sides[1], precision, True, (20.0, 10.0)).sweep(Stream())


def block_search(batch: int) -> None:
    """Products, highest scores of stretches and the first threshold; the few candidates after them are left out."""
    table, item_table = (torch.empty(rows, FACTORS, device=META) for rows in (batch + 1, ITEMS + 1))
    form = BilinearForm(Side(table), Side(item_table, torch.empty(ITEMS + 1, device=META)))
    users_B = torch.empty(batch, dtype=torch.int64, device=META)
    height = min(ITEMS, max(MIN_BLOCK_ROWS, BLOCK_CELLS["cuda"] // batch)) // STRETCH * STRETCH
    for begin in range(0, ITEMS, height):
        rows = slice(begin, min(begin + height, ITEMS // STRETCH * STRETCH))
        scores_RB = torch.empty(rows.stop - begin, batch, device=META)
        write_products(form, users_B, table[:batch].T, rows, scores_RB)
        highest_SB = scores_RB.view(-1, STRETCH, batch).amax(1)
        if begin == 0:
            highest_SB.topk(LIST, dim=0)
        highest_SB >= highest_SB[0]  # noqa: B015 - it is counted


@contextmanager
def counted(machine: Machine) -> Iterator[Work]:
    counting = Counting(machine)
    with counting:
        yield counting.work


def textbook(machine: Machine) -> Work:
    """One recorded step of the preset `textbook` on MovieLens-100K: 943 users, 1,682 items. A graph is one launch."""
    preset = load_preset("textbook")
    data = planted_set(943, 1_682, 5_000)
    trainer = Adam(data, preset.settings, np.random.default_rng(0))  # type: ignore[arg-type]
    batch = (data.users_N[:512].long(), data.items_N[:512].long(), data.ratings_N[:512])
    trainer.step(*batch)
    with counted(machine) as work:
        trainer.step(*batch)
    return work


def rows_of_table(machine: Machine) -> Iterator[tuple[str, Work]]:
    for name, shape in SETS.items():
        kernels: dict[str, Callable[[], None]] = {
            "`als` sweep, 31 factors": partial(als_sweep, *shape, padded_width(31), biased=True),
            "head sweep, 64 factors": partial(als_sweep, *shape, 64, biased=False),
            "head sweep, 128 factors": partial(als_sweep, *shape, 128, biased=False),
            "`bayes` sweep of a chain, 15 factors": partial(gibbs_sweep, *shape, padded_width(15)),
            "`bayes` sweep of a chain, 39 factors": partial(gibbs_sweep, *shape, padded_width(39)),
        }
        for title, kernel in kernels.items():
            with counted(machine) as work:
                kernel()
            yield f"{title}, {name}", work
    for batch in BATCHES:
        with counted(machine) as work:
            block_search(batch)
        yield f"lists of {LIST} from {ITEMS:,} × {FACTORS}, batch {batch}", work
    yield "`textbook` step, batch 512", textbook(machine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"bandwidth": 3.35e12, "float32": 67e12, "float64": 34e12, "launch": 3e-6}.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    machine = Machine(**vars(parser.parse_args()))
    print("| kernel | GB | GFLOP | launches | expected ms |\n|---|---|---|---|---|")
    for title, work in rows_of_table(machine):
        figures = f"{work.moved / 1e9:.3g} | {work.flops / 1e9:.3g} | {work.launches:,} | {1e3 * work.seconds:.3g}"
        print(f"| {title} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
