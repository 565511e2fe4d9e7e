"""Turns the rows that each rank has read into its users, numbered as if one process had read everything.

Users and items are numbered in the order in which they first appear. The ranks find that order together: each id has a
rank, chosen by its hash, to which all readers send it; for users also their rows. No rank ever has all rows; every rank
has all items' ids. Shapes: N rows here, M rows that arrive, D distinct ids here, U users, I items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from training.communicator import BLOCK, Span
from training.config import JobConfig
from training.data.columns import Bools
from training.data.dataset import Dataset, checked_scale
from training.data.interactions import NO_TIME, Float32s, Int64s, Interactions
from training.data.origin import Origin
from training.data.split import held_out, parse_split
from training.data.times import Ticks, in_seconds
from training.data.train_test import TrainTest
from training.data.validation import first_seen, without_repeats
from training.distributed.group import Group
from training.errors import DataError

USER_COST = 25  # in ratings: solving a user takes as long as 50 of them, a user's rows as much memory as 10
Ids = tuple[Int64s, pa.StringArray]  # a code for each row, and each code's id
Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Route:
    """Where each row of a table goes: sends columns there, and answers back.

    `order_N` are the rows in the order of the ranks that they go to; `out` go to each rank, and `into` come from it.
    """

    group: Group
    order_N: Int64s
    out: list[int]
    into: list[int]

    @classmethod
    def to(cls, group: Group, owner_N: Int64s) -> Route:
        """The route of rows to the ranks that own them."""
        out = np.bincount(owner_N, minlength=group.size)
        into = group.swapped(torch.from_numpy(out)).tolist()
        return cls(group, np.argsort(owner_N, kind="stable"), out.tolist(), into)

    def send(self, column_N: Column) -> Column:
        """Send a column, and return what all ranks send to this one, rank by rank."""
        return self.group.passed(torch.from_numpy(column_N[self.order_N]), self.out, self.into).numpy()

    def send_back(self, answers_M: Column) -> Column:
        """Send answers to the rows that arrived, and return the answers to the rows that were sent, in their order."""
        answers = self.group.passed(torch.from_numpy(answers_M), self.into, self.out).numpy()
        result = np.empty_like(answers)
        result[self.order_N] = answers
        return result

    def send_texts(self, texts: pa.StringArray) -> pa.StringArray:
        """`send` for texts."""
        parts = np.split(self.order_N, np.cumsum(self.out)[:-1])
        return _exchanged(self.group, [texts.take(pa.array(part)) for part in parts])


def all_texts(group: Group, texts: pa.StringArray) -> pa.StringArray:
    """The texts of all ranks, in the order of the ranks, on each of them."""
    return _exchanged(group, [texts] * group.size)


def _exchanged(group: Group, parts: list[pa.StringArray]) -> pa.StringArray:
    """Send texts to each rank, as streams of Arrow, and return what all ranks send to this one."""
    came = group.exchanged([_stream(part) for part in parts])
    return pa.concat_arrays([pa.ipc.open_stream(stream.numpy()).read_next_batch().column(0) for stream in came])


def _stream(texts: pa.StringArray) -> Tensor:
    sink, batch = pa.BufferOutputStream(), pa.record_batch([texts], ["text"])
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return torch.frombuffer(bytearray(sink.getvalue()), dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked rows, and where they are: their origin, and how many rows stand before them."""

    rows: pa.RecordBatch
    origin: Origin
    offset: int

    @property
    def ticks(self) -> Ticks:
        """The times of the rows."""
        found = "timestamp" in self.rows.schema.names
        ticks = self.rows.column("timestamp") if found else pa.nulls(self.rows.num_rows, pa.int64())
        return Ticks(ticks, self.origin, self.offset)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that this rank has read. They are consecutive.

    Attributes:
        begin, total: the position of the first among all rows, and the number of all rows.
        digest: of the rows of all ranks.
    """

    users: Ids
    items: Ids
    ratings_N: Float32s
    timestamps_N: Int64s | None
    begin: int
    total: int
    digest: str

    @classmethod
    def of(cls, group: Group, sources: list[list[Batch]], *, begin: int, total: int, digest: str) -> Rows:
        """What was read of each source."""
        batches = [batch for read in sources for batch in read]
        users, items = _ids(batches, "user"), _ids(batches, "item")
        ratings = [batch.rows.column("rating").to_numpy() for batch in batches]
        ratings_N = np.concatenate([np.empty(0, np.float32), *ratings])
        return cls(users, items, ratings_N, _timestamps(group, sources), begin, total, digest)


def _ids(batches: list[Batch], name: str) -> Ids:
    chunks = [batch.rows.column(name) for batch in batches] or [pa.array([], pa.dictionary(pa.int32(), pa.string()))]
    codes_N, ids = first_seen(pa.chunked_array(chunks).unify_dictionaries(), name)
    return codes_N.astype(np.int64), ids


def _timestamps(group: Group, sources: list[list[Batch]]) -> Int64s | None:
    """The timestamps, None if no rank has any."""
    seconds = [each for batches in sources for each in in_seconds([batch.ticks for batch in batches], group)]
    if group.total(sum(len(each) - each.null_count for each in seconds)) == 0:
        return None
    times_N: Int64s = pa.chunked_array(seconds, pa.int64()).fill_null(NO_TIME).to_numpy()
    return times_N


def numbered(group: Group, column: Ids) -> tuple[Int64s, Span, pa.StringArray]:
    """Number the ids of all ranks, each on the rank that its hash says.

    Returns the number of each row here, and the numbers that this rank has given, with their ids.
    """
    codes_N, ids = column
    hashes_D = pd.util.hash_array(np.array(ids.to_pylist(), object), categorize=False)
    route = Route.to(group, (hashes_D % np.uint64(group.size)).astype(np.int64))
    asked_M = route.send_texts(ids).dictionary_encode()
    given = _given(group, len(asked_M.dictionary))
    number_D = route.send_back(given.start + asked_M.indices.to_numpy().astype(np.int64))
    return number_D[codes_N], given, asked_M.dictionary


def _given(group: Group, count: int) -> Span:
    """The numbers of a rank that needs `count` of them, after those of the ranks before it."""
    counts = group.stacked(torch.tensor(count)).tolist()
    return Span(tuple(np.append(0, np.cumsum(counts)).tolist()), group.rank)


@dataclass(slots=True)
class Table:
    """Ratings of whole users, in the order of all rows."""

    users_N: Int64s
    items_N: Int64s
    ratings_N: Float32s
    timestamps_N: Int64s | None
    rows_N: Int64s

    def sent(self, group: Group, owner_N: Int64s) -> Table:
        """Send every row to its owner, and return the rows that arrive."""
        route = Route.to(group, owner_N)
        rows_N = route.send(self.rows_N)
        order = np.argsort(rows_N, kind="stable")
        return self._changed(lambda column_N: route.send(column_N)[order], rows_N[order])

    def take(self, rows: Int64s | Bools) -> Table:
        return self._changed(lambda column_N: column_N[rows], self.rows_N[rows])

    def _changed(self, change: Callable[[Any], Any], rows_N: Int64s) -> Table:
        times_N = None if self.timestamps_N is None else change(self.timestamps_N)
        return Table(change(self.users_N), change(self.items_N), change(self.ratings_N), times_N, rows_N)


def shuffled(group: Group, rows: Rows, config: JobConfig, name: str) -> TrainTest:
    """The part of this rank. Raises DataError or ConfigError for ratings or a split that cannot be used."""
    users_N, users, user_ids = numbered(group, rows.users)
    items_N, items, item_ids = numbered(group, rows.items)
    for what, given in (("user", users), ("item", items)):
        if given.total == 1:
            raise DataError(f"{name}: all ratings are of a single {what}; at least two are needed")
    total, digest = rows.total, rows.digest
    low, high = rows.ratings_N.min(initial=np.inf), rows.ratings_N.max(initial=-np.inf)
    scale = checked_scale((group.smallest(float(low)), group.largest(float(high))), config.options, name)
    read = Table(users_N, items_N, rows.ratings_N, rows.timestamps_N, rows.begin + np.arange(len(users_N)))
    del rows, users_N, items_N  # memory: two tables exist for a while
    table = read.sent(group, users.owners(read.users_N))
    del read
    table.users_N = table.users_N - users.start
    table, duplicates = _without_duplicates(group, table, items.total)
    kind, rng = parse_split(config.split), np.random.default_rng(config.seed)
    test_N = held_out(table.users_N, table.timestamps_N, table.rows_N, kind, rng, group)
    numbers_U, span = _trained_users(group, len(users), table, test_N, total)
    order_I = _catalogue(group, items.total, table, test_N, total)
    numbers_I = np.full(items.total, len(order_I))
    numbers_I[order_I] = np.arange(len(order_I))
    table.users_N, table.items_N = numbers_U[table.users_N], numbers_I[table.items_N]
    owner_N = span.owners(table.users_N)
    halves = [table.take(which_N).sent(group, owner_N[which_N]) for which_N in (~test_N, test_N)]
    del table
    user_ids, item_ids = _user_ids(group, user_ids, numbers_U, span), all_texts(group, item_ids).take(pa.array(order_I))
    train, test = (_interactions(half, span, user_ids, item_ids) for half in halves)
    dataset = Dataset(name=name, ratings=train, rows=total, duplicates=duplicates, scale=scale, fingerprint=digest)
    return TrainTest(
        dataset=dataset,
        train=train,
        test=test,
        communicator=group,
        users_here=span,
        order_N=halves[0].rows_N,
        scale=scale,
    )


def _interactions(table: Table, span: Span, user_ids: pa.StringArray, item_ids: pa.StringArray) -> Interactions:
    users_N = np.where(table.users_N == span.total, len(span), table.users_N - span.start)
    return Interactions(
        users_N=users_N.astype(np.int32),
        items_N=table.items_N.astype(np.int32),
        ratings_N=table.ratings_N,
        timestamps_N=table.timestamps_N,
        user_ids=user_ids,
        item_ids=item_ids,
    )


def _without_duplicates(group: Group, table: Table, items: int) -> tuple[Table, int]:
    """The last rating of each pair, rows numbered anew, and how many ratings were dropped on all ranks."""
    kept = without_repeats(table.users_N * items + table.items_N, table.timestamps_N)
    dropped = np.delete(table.rows_N, kept)
    if group.total(len(dropped)) == 0:
        return table, 0
    every = np.sort(torch.cat(group.all_objects(torch.from_numpy(dropped))).numpy())
    table = table.take(kept)
    return replace(table, rows_N=table.rows_N - np.searchsorted(every, table.rows_N)), len(every)


def _trained_users(group: Group, users: int, table: Table, test_N: Bools, total: int) -> tuple[Int64s, Span]:
    """Number the users with training ratings in the order of their first ones, and cut them into equal work.

    Returns the number of each user here, that after the last for those without training ratings, and which of these
    numbers this rank has in the end.
    """
    first_U = np.full(users, total)
    np.minimum.at(first_U, table.users_N, table.rows_N)
    counts_U = np.bincount(table.users_N[~test_N], minlength=users)
    trained = counts_U > 0
    route = Route.to(group, first_U[trained] * group.size // max(1, total))
    asked_M = route.send(first_U[trained])
    given = _given(group, len(asked_M))
    rank_M = np.empty(len(asked_M), np.int64)
    rank_M[np.argsort(asked_M)] = np.arange(len(asked_M))
    numbers_U = np.full(users, given.total)
    numbers_U[trained] = route.send_back(given.start + rank_M)
    return numbers_U, _balanced(group, numbers_U[trained], counts_U[trained], given.total)


def _balanced(group: Group, numbers_U: Int64s, counts_U: Int64s, users: int) -> Span:
    """Cut the users so that all ranks have about equal work."""
    even = Span.even(users, group)
    route = Route.to(group, numbers_U // max(1, even.longest))
    counts = np.zeros(len(even), np.int64)
    counts[route.send(numbers_U) - even.start] = route.send(counts_U)
    here = cuts(counts, even.start, _given(group, work_of(counts)), group.size)
    return Span(whole_blocks(group.sum(torch.from_numpy(here)).numpy(), users), group.rank)


def work_of(counts_U: Int64s) -> int:
    """How much work users with so many ratings are."""
    return int((counts_U + USER_COST).sum())


def cuts(counts_U: Int64s, first: int, work: Span, ranks: int) -> Int64s:
    """Where to cut all users so that each rank has about equal work, (ranks - 1); 0 for cuts that are not among these.

    `counts_U` are the ratings of some users, `first` is the number of the first of them, `work` their part of all work.
    """
    targets = np.linspace(0, work.total, ranks + 1)[1:-1]
    inside = (targets > work.start) & (targets <= work.stop)
    positions = first + np.searchsorted(np.cumsum(counts_U + USER_COST), targets - work.start) + 1
    return np.where(inside, positions, 0)


def whole_blocks(cuts: Int64s, users: int) -> tuple[int, ...]:
    """The bounds of the ranks' users, cut between blocks."""
    return (0, *np.minimum(-(-cuts // BLOCK) * BLOCK, users).tolist(), users)


def _user_ids(group: Group, ids: pa.StringArray, numbers_U: Int64s, span: Span) -> pa.StringArray:
    """The ids of the users of this rank, in order, from the ranks that have their rows."""
    trained = numbers_U < span.total
    route = Route.to(group, span.owners(numbers_U[trained]))
    texts = route.send_texts(ids.filter(pa.array(trained)))
    return texts.take(pa.array(np.argsort(route.send(numbers_U[trained]))))


def _catalogue(group: Group, items: int, table: Table, test_N: Bools, total: int) -> Int64s:
    """The items with training ratings, in the order of their first ratings."""
    first_I = np.full(items, total)
    np.minimum.at(first_I, table.items_N, table.rows_N)
    counts_I = np.bincount(table.items_N[~test_N], minlength=items)
    first_I = group.least(torch.from_numpy(first_I)).numpy()
    trained_I = group.sum(torch.from_numpy(counts_I)).numpy() > 0
    return np.argsort(np.where(trained_I, first_I, total), kind="stable")[: trained_I.sum()]
