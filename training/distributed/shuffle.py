"""Turns the rows that each rank has read into its users, numbered as if one process had read everything.

Ids are numbered in the order in which they first appear. The ranks find that order together: each id has a rank, chosen
by its hash, to which all readers send where they saw it first. No rank ever has all rows; every rank has all
items' ids. Shapes: N rows here, D distinct ids here, U users, I items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from training.communicator import Span
from training.config import JobConfig
from training.data.columns import Bools
from training.data.dataset import Dataset
from training.data.interactions import Float32s, Int64s, Interactions
from training.data.split import held_out, parse_split
from training.data.train_test import TrainTest
from training.data.validation import first_seen, without_repeats
from training.distributed.group import Group
from training.distributed.routing import Route, all_texts
from training.distributed.shares import cuts, whole_blocks, work_of
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of one column: a code for each row, and each code's id, in the order of first appearance."""

    codes_N: Int64s
    ids: pa.StringArray

    @classmethod
    def of(cls, group: Group, batches: list[pa.RecordBatch], name: str) -> Ids:
        chunks = [batch.column(name) for batch in batches] or [pa.array([], pa.dictionary(pa.int32(), pa.string()))]
        codes_N, ids = first_seen(pa.chunked_array(chunks).unify_dictionaries(), group)
        return cls(codes_N.astype(np.int64), ids)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that this rank has read. They are consecutive.

    Attributes:
        begin, total: the position of the first among all rows, and the number of all rows.
    """

    users: Ids
    items: Ids
    ratings_N: Float32s
    timestamps_N: Int64s | None
    begin: int
    total: int

    @classmethod
    def of(cls, group: Group, batches: list[pa.RecordBatch], name: str, begin: int, total: int) -> Rows:
        users, items = Ids.of(group, batches, "user"), Ids.of(group, batches, "item")
        ratings_N = np.concatenate([np.empty(0, np.float32), *(batch.column("rating").to_numpy() for batch in batches)])
        return cls(users, items, ratings_N, _timestamps(group, batches, name), begin, total)


def _timestamps(group: Group, batches: list[pa.RecordBatch], name: str) -> Int64s | None:
    """The timestamps, None if no rank has any."""
    columns = [batch.column("timestamp") for batch in batches if "timestamp" in batch.schema.names]
    missing = group.total(sum(column.null_count for column in columns))
    present = group.total(sum(len(column) - column.null_count for column in columns))
    rows = group.total(sum(batch.num_rows for batch in batches))
    if present == 0:
        return None
    if missing or present < rows:
        raise DataError(f"{name}: timestamp is missing in {rows - present} of {rows} rows")
    return np.concatenate([np.empty(0, np.int64), *(column.to_numpy() for column in columns)])


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that this rank has given to ids of one column, and these ids."""

    given: Span
    ids: pa.StringArray


def numbered(group: Group, column: Ids, rows: Rows) -> tuple[Int64s, Numbers]:
    """Number the ids of all ranks in the order in which they first appear. Returns the number of each row as well."""
    count = len(column.ids)
    first_D = np.full(count, rows.total)
    np.minimum.at(first_D, column.codes_N, rows.begin + np.arange(len(column.codes_N)))
    hashes = pd.util.hash_array(np.array(column.ids.to_pylist(), object), categorize=False) if count else np.empty(0)
    route = Route.to(group, (hashes % np.uint64(group.size)).astype(np.int64) if count else np.empty(0, np.int64))
    asked = route.send_texts(column.ids).dictionary_encode()
    codes_M = asked.indices.to_numpy().astype(np.int64)
    least = np.full(len(asked.dictionary), rows.total)
    np.minimum.at(least, codes_M, route.send(first_D))
    mine_D = route.send_back(least[codes_M]) == first_D
    given = _given(group, int(mine_D.sum()))
    number_D = np.where(mine_D, given.start + np.cumsum(mine_D) - 1, -1)
    told = np.full(len(asked.dictionary), -1)
    np.maximum.at(told, codes_M, route.send(number_D))
    return route.send_back(told[codes_M])[column.codes_N], Numbers(given, column.ids.filter(pa.array(mine_D)))


def _given(group: Group, count: int) -> Span:
    """The numbers of a rank that needs `count` of them, after those of the ranks before it."""
    counts = group.stacked(torch.tensor(count)).tolist()
    return Span(tuple(np.append(0, np.cumsum(counts)).tolist()), group.rank)


@dataclass(slots=True)
class Table:
    """Ratings of whole users, in the order of all rows. Users and items have the numbers of `numbered`."""

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
        users_N, items_N = route.send(self.users_N)[order], route.send(self.items_N)[order]
        times_N = None if self.timestamps_N is None else route.send(self.timestamps_N)[order]
        return Table(users_N, items_N, route.send(self.ratings_N)[order], times_N, rows_N[order])

    def take(self, rows: Int64s | Bools) -> Table:
        times_N = None if self.timestamps_N is None else self.timestamps_N[rows]
        return Table(self.users_N[rows], self.items_N[rows], self.ratings_N[rows], times_N, self.rows_N[rows])


def shuffled(group: Group, rows: Rows, digest: str, config: JobConfig, name: str) -> TrainTest:
    """The part of this rank. Raises DataError or ConfigError for ratings or a split that cannot be used."""
    users_N, users = numbered(group, rows.users, rows)
    items_N, items = numbered(group, rows.items, rows)
    for what, column in (("user", users), ("item", items)):
        if column.given.total == 1:
            raise DataError(f"{config.data}: all ratings are of a single {what}; at least two are needed")
    total = rows.total
    read = Table(users_N, items_N, rows.ratings_N, rows.timestamps_N, rows.begin + np.arange(len(users_N)))
    del rows, users_N, items_N  # memory: two tables exist for a while
    table = read.sent(group, read.users_N % group.size)
    del read
    table, duplicates = _without_duplicates(group, table)
    known_U, codes_N = np.unique(table.users_N, return_inverse=True)
    table.users_N = codes_N
    kind, rng = parse_split(config.split), np.random.default_rng(config.seed)
    test_N = held_out(table.users_N, table.timestamps_N, table.rows_N, kind, rng, group)
    trained = _trained_users(group, known_U, table, test_N, total)
    item_numbers, item_ids = _catalogue(group, table, test_N, items, total)
    user_number_N = trained.numbers_U[codes_N]
    table.users_N, table.items_N = user_number_N, item_numbers[table.items_N]
    span = trained.span
    owner_N = span.owners(user_number_N)
    halves = [table.take(which_N).sent(group, owner_N[which_N]) for which_N in (~test_N, test_N)]
    del table, codes_N, user_number_N
    user_ids = trained.ids(group, users)
    train, test = (_interactions(half, span, user_ids, item_ids) for half in halves)
    dataset = Dataset(name=name, ratings=train, duplicates=duplicates, fingerprint=digest)
    return TrainTest(dataset, train, test, communicator=group, users_here=span)


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


def _without_duplicates(group: Group, table: Table) -> tuple[Table, int]:
    """The last rating of each pair, rows numbered anew, and how many ratings were dropped on all ranks."""
    items = int(table.items_N.max()) + 1 if len(table.items_N) else 1
    kept = without_repeats(table.users_N * items + table.items_N, table.timestamps_N)
    dropped = np.delete(table.rows_N, kept)
    if group.total(len(dropped)) == 0:
        return table, 0
    every = np.sort(np.concatenate(group.all_objects(dropped)))
    table = table.take(kept)
    return replace(table, rows_N=table.rows_N - np.searchsorted(every, table.rows_N)), len(every)


@dataclass(frozen=True, slots=True)
class TrainedUsers:
    """The users whose ratings are here, by `numbered`, ascending, and their numbers among those with training ratings.

    Attributes:
        known_U: users by `numbered`.
        numbers_U: the numbers; those without training ratings have that after the last.
        span: the users that this rank has in the end.
    """

    known_U: Int64s
    numbers_U: Int64s
    span: Span

    def ids(self, group: Group, users: Numbers) -> pa.StringArray:
        """The ids of the users of this rank, in order, from the ranks that read them."""
        trained = self.numbers_U < self.span.total
        asked = Route.to(group, users.given.owners(self.known_U[trained]))
        here_M, number_M = asked.send(self.known_U[trained]), asked.send(self.numbers_U[trained])
        answer = Route.to(group, self.span.owners(number_M))
        texts = answer.send_texts(users.ids.take(pa.array(here_M.astype(np.int64) - users.given.start)))
        return texts.take(pa.array(np.argsort(answer.send(number_M))))


def _trained_users(group: Group, known_U: Int64s, table: Table, test_N: Bools, total: int) -> TrainedUsers:
    """Number the users with training ratings in the order of their first ones. `table` numbers users by `known_U`."""
    first_U = np.full(len(known_U), total)
    np.minimum.at(first_U, table.users_N, table.rows_N)
    counts_U = np.bincount(table.users_N[~test_N], minlength=len(known_U))
    trained = counts_U > 0
    route = Route.to(group, first_U[trained] * group.size // max(1, total))
    asked_M = route.send(first_U[trained])
    given = _given(group, len(asked_M))
    rank_M = np.empty(len(asked_M), np.int64)
    rank_M[np.argsort(asked_M)] = np.arange(len(asked_M))
    numbers_U = np.full(len(known_U), given.total)
    numbers_U[trained] = route.send_back(given.start + rank_M)
    return TrainedUsers(known_U, numbers_U, _balanced(group, numbers_U[trained], counts_U[trained], given.total))


def _balanced(group: Group, numbers_U: Int64s, counts_U: Int64s, users: int) -> Span:
    """Cut the users so that all ranks have about equal work, as `shares.share` does."""
    even = Span.even(users, group)
    route = Route.to(group, numbers_U // max(1, even.longest))
    counts = np.zeros(len(even), np.int64)
    counts[route.send(numbers_U).astype(np.int64) - even.start] = route.send(counts_U)
    here = cuts(counts, even.start, _given(group, work_of(counts)), group.size)
    return Span(whole_blocks(group.sum(torch.from_numpy(here)).numpy(), users), group.rank)


def _catalogue(group: Group, table: Table, test_N: Bools, items: Numbers, total: int) -> tuple[Int64s, pa.StringArray]:
    """The number of each item among those with training ratings, that after the last without, and the ids of these."""
    first_I = np.full(items.given.total, total)
    np.minimum.at(first_I, table.items_N, table.rows_N)
    first_I = group.least(torch.from_numpy(first_I)).numpy()
    trained_I = group.sum(torch.from_numpy(np.bincount(table.items_N[~test_N], minlength=len(first_I)))).numpy() > 0
    order = np.argsort(np.where(trained_I, first_I, total), kind="stable")[: trained_I.sum()]
    numbers_I = np.full(len(first_I), len(order))
    numbers_I[order] = np.arange(len(order))
    return numbers_I, all_texts(group, items.ids).take(pa.array(order))
