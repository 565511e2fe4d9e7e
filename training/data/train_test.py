"""Reads and splits the ratings of a job into a training and a test part, with attributes if the preset uses them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.urls import is_url
from training.communicator import SINGLE_PROCESS, Communicator, Span
from training.config import JobConfig
from training.data import movielens
from training.data.attributes import Matrix, encode
from training.data.dataset import Dataset, load
from training.data.described import SHOWN_SCHEMA, check_overlap, read_attributes, read_items
from training.data.interactions import Int64s, Interactions
from training.data.split import Split, folds, parse_split, split
from training.errors import ConfigError
from training.options import SourceOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTest:
    """The ratings of a job.

    Attributes:
        dataset: what was read.
        train: the training part. Its vocabularies hold the ids with training ratings and, after them, those with
            attributes alone.
        test: the test part under the same vocabularies, perhaps empty.
        held_out: the test part row by row with the ids that it was read with; None where ranks have read it in parts.
        user_attributes_UA, item_attributes_IA: None if there are none or the preset uses none.
        communicator: of the ranks that fit together; each has some of the users, numbered from 0, and all items.
        users_here: which of all users these are; None for all.
        order_N: numbers that the training ratings here are in the order of one process by; None for one process.
        scale: the lowest and the highest rating of all, held-out ones too, or the given one.
    """

    dataset: Dataset
    train: Interactions
    test: Interactions
    held_out: Interactions | None = None
    user_attributes_UA: Matrix | None = None
    item_attributes_IA: Matrix | None = None
    communicator: Communicator = SINGLE_PROCESS
    users_here: Span | None = None
    order_N: Int64s | None = None
    scale: tuple[float, float]

    def totals(self) -> dict[str, int]:
        """Counts over all ranks, keyed as `--json` prints them."""
        return {
            "users": self.communicator.total(self.train.users),
            "items": self.train.items,
            "train_ratings": self.communicator.total(len(self.train)),
            "test_ratings": self.communicator.total(len(self.test)),
        }

    def inner(self, kind: Split, rng: np.random.Generator) -> TrainTest:
        """The training part split again: its own test part takes no part. Raises ConfigError as `split` does."""
        parted = _parted(replace(self.dataset, ratings=self.train), *split(self.train, kind, rng))
        user_ids, item_ids = (
            ids if values is None else _extended(ids, more)
            for ids, more, values in (
                (parted.train.user_ids, self.train.user_ids, self.user_attributes_UA),
                (parted.train.item_ids, self.train.item_ids, self.item_attributes_IA),
            )
        )
        return replace(
            parted,
            train=parted.train.aligned(user_ids, item_ids),
            test=parted.test.aligned(user_ids, item_ids),
            user_attributes_UA=_reordered(self.user_attributes_UA, self.train.user_ids, user_ids),
            item_attributes_IA=_reordered(self.item_attributes_IA, self.train.item_ids, item_ids),
            scale=self.scale,
        )

    def merged(self) -> TrainTest:
        """All ratings as the training part. Ids that only the test part has get no attributes."""
        ratings = self.dataset.ratings
        train = ratings.aligned(
            _extended(self.train.user_ids, ratings.user_ids), _extended(self.train.item_ids, ratings.item_ids)
        )
        return replace(
            self,
            train=train,
            test=train.take(np.empty(0, np.int64)),
            held_out=None,
            user_attributes_UA=_padded(self.user_attributes_UA, train.users),
            item_attributes_IA=_padded(self.item_attributes_IA, train.items),
        )


def read(
    config: JobConfig, phase: Callable[[str], None] = lambda _: None, *, with_attributes: bool = False
) -> TrainTest:
    """Read the ratings and split them. Only the split draws from `default_rng(seed)`.

    Raises DataError or ConfigError for ratings, attributes or a split that cannot be used.
    """
    _check_attributes(config, with_attributes=with_attributes)
    return _with_attributes(_read_split(config, phase), config)


def read_folds(
    config: JobConfig, number: int, phase: Callable[[str], None] = lambda _: None, *, with_attributes: bool = False
) -> Iterator[TrainTest]:
    """Read the ratings once, and split them as each fold of a cross-validation does. Raises as `read` does."""
    _check_attributes(config, with_attributes=with_attributes)
    dataset = _read_dataset(config, phase)
    rows = len(dataset.ratings)
    for test_rows in folds(rows, number, np.random.default_rng(config.seed)):
        yield _with_attributes(_parted(dataset, np.setdiff1d(np.arange(rows), test_rows), test_rows), config)


def _check_attributes(config: JobConfig, *, with_attributes: bool) -> None:
    if (config.user_attributes or config.item_attributes) and not with_attributes:
        raise ConfigError(
            f"the preset {config.preset} uses no attributes: leave out --user-attributes and --item-attributes, "
            "or choose a preset that does, such as bayes"
        )


def _with_attributes(ratings: TrainTest, config: JobConfig) -> TrainTest:
    """The ratings with the attributes that were given, if any, and those whom only these describe."""
    train = ratings.train
    users = _attributes(config.user_attributes, "user", config)
    items = _attributes(config.item_attributes, "item", config)
    if users is None and items is None:
        return ratings
    user_ids, item_ids = (
        ids if table is None else _extended(ids, table["id"].combine_chunks())
        for ids, table in ((train.user_ids, users), (train.item_ids, items))
    )
    return replace(
        ratings,
        train=train.aligned(user_ids, item_ids),
        test=ratings.test.aligned(user_ids, item_ids),
        user_attributes_UA=None if users is None else encode(users, user_ids),
        item_attributes_IA=None if items is None else encode(items, item_ids),
    )


def _attributes(source: str | None, side: Literal["user", "item"], config: JobConfig) -> pa.Table | None:
    """What a file, or a named data set, tells of the users or items."""
    if source is None:
        return None
    if source not in movielens.SETS:
        options = SourceOptions(columns=config.options.columns, encoding=config.options.encoding)
        return read_attributes(source, side, options)
    named = load([source], rng=np.random.default_rng(config.seed), cache=config.cache)
    table = named.users if side == "user" else named.items
    if table is None:
        raise ConfigError(f"--{side}-attributes {source}: this data set has no attributes of {side}s")
    return table


def _read_dataset(config: JobConfig, phase: Callable[[str], None]) -> Dataset:
    phase("reading the ratings")
    rng = np.random.default_rng(config.seed)
    dataset = load(config.data, config.options, rng=rng, cache=config.cache, erasures=config.store)
    if config.items is None:
        return dataset
    options = SourceOptions(columns=config.options.columns, encoding=config.options.encoding)
    items = read_items(config.items, config.item_columns, options)
    check_overlap(items, dataset.ratings.item_ids)
    if shown := [name for name in SHOWN_SCHEMA.names if name in items.column_names]:
        log.info("the columns %s of --items are for `import --items`: a fit does not use them", ", ".join(shown))
    return replace(dataset, items=items)


def _read_split(config: JobConfig, phase: Callable[[str], None]) -> TrainTest:
    """The parts under the vocabularies of the training part."""
    kind = parse_split("none" if config.test else config.split)
    dataset = _read_dataset(config, phase)
    if config.test is not None:
        return _with_test_file(dataset, config.test, config)
    if config.split != "none":
        phase(f"splitting by {config.split}")
    return _parted(dataset, *split(dataset.ratings, kind, np.random.default_rng(config.seed)))


def _parted(dataset: Dataset, train_rows: Int64s, test_rows: Int64s) -> TrainTest:
    train, held_out = dataset.ratings.take(train_rows).compacted(), dataset.ratings.take(test_rows)
    test = held_out.aligned(train.user_ids, train.item_ids)
    return TrainTest(dataset=dataset, train=train, test=test, held_out=held_out, scale=dataset.scale)


def _with_test_file(dataset: Dataset, file: str, config: JobConfig) -> TrainTest:
    options = replace(config.options, table=None, query=None) if not is_url(file) else config.options
    rng = np.random.default_rng([config.seed, 1])
    read = load([file], options, rng=rng, cache=config.cache, fitted=False, erasures=config.store)
    train, held_out = dataset.ratings, read.ratings
    (low, high), (test_low, test_high) = dataset.scale, read.scale
    test = held_out.aligned(train.user_ids, train.item_ids)
    scale = min(low, test_low), max(high, test_high)
    return TrainTest(dataset=dataset, train=train, test=test, held_out=held_out, scale=scale)


def _extended(ids: pa.StringArray, more: pa.StringArray) -> pa.StringArray:
    """`ids`, and after them those that only `more` has."""
    return pa.concat_arrays([ids, more.filter(pc.invert(pc.is_in(more, value_set=ids)))])


def _reordered(table: Matrix | None, ids: pa.StringArray, order: pa.StringArray) -> Matrix | None:
    """The rows of a table that has one for each of `ids`, in another order."""
    return None if table is None else table[pc.index_in(order, value_set=ids).to_numpy()]


def _padded(table: Matrix | None, rows: int) -> Matrix | None:
    """The table with rows of zeros at the end."""
    return None if table is None else np.pad(table, ((0, rows - len(table)), (0, 0)))
