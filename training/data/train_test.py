"""Reading and splitting: the ratings of a job as a training and a test part, with side information where wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.communicator import SINGLE_PROCESS, Communicator, Span
from training.config import JobConfig
from training.data.attributes import Matrix, encode, read_attributes
from training.data.dataset import Dataset, load
from training.data.interactions import Interactions
from training.data.split import parse_split, split
from training.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrainTest:
    """The ratings of a job.

    Attributes:
        dataset: what was read.
        train: the training part. Its vocabularies hold the ids with training ratings and, after them, those with
            attributes alone.
        test: the test part under the same vocabularies, perhaps empty.
        user_attributes_UA, item_attributes_IA: None where there are none or none are wanted.
        communicator: of the ranks that fit together; each has some of the users, numbered from 0, and all items.
        users_here: which of all users these are; None for all.
    """

    dataset: Dataset
    train: Interactions
    test: Interactions
    user_attributes_UA: Matrix | None = None
    item_attributes_IA: Matrix | None = None
    communicator: Communicator = SINGLE_PROCESS
    users_here: Span | None = None

    def totals(self) -> dict[str, int]:
        """Counts over all ranks, keyed as `--json` prints them."""
        return {
            "users": self.communicator.total(self.train.users),
            "items": self.train.items,
            "train_ratings": self.communicator.total(len(self.train)),
            "test_ratings": self.communicator.total(len(self.test)),
        }

    def scale(self) -> tuple[float, float]:
        """The lowest and the highest training rating."""
        low, high = self.train.scale
        return self.communicator.smallest(low), self.communicator.largest(high)

    def merged(self) -> TrainTest:
        """All ratings as the training part. Ids that only the test part has get no attributes."""
        ratings = self.dataset.ratings
        train = ratings.aligned(
            _extended(self.train.user_ids, ratings.user_ids), _extended(self.train.item_ids, ratings.item_ids)
        )
        empty = train.take(np.empty(0, np.int64))
        users = _padded(self.user_attributes_UA, train.users)
        return TrainTest(self.dataset, train, empty, users, _padded(self.item_attributes_IA, train.items))


def read(
    config: JobConfig, phase: Callable[[str], None] = lambda _: None, *, with_attributes: bool = False
) -> TrainTest:
    """Read the ratings and split them. Only the split draws from `default_rng(seed)`.

    Raises DataError or ConfigError for ratings, attributes or a split that cannot be used.
    """
    dataset, train, test = _read_split(config, phase)
    if not with_attributes:
        return TrainTest(dataset, train, test.aligned(train.user_ids, train.item_ids))
    users = read_attributes(config.user_attributes) if config.user_attributes else dataset.users
    items = read_attributes(config.item_attributes) if config.item_attributes else dataset.items
    if users is None and items is None:
        raise ConfigError(
            "the preset needs attributes and the data has none: give --user-attributes or --item-attributes"
        )
    user_ids, item_ids = (
        ids if table is None else _extended(ids, table["id"].combine_chunks())
        for ids, table in ((train.user_ids, users), (train.item_ids, items))
    )
    train = train.aligned(user_ids, item_ids)
    return TrainTest(
        dataset,
        train,
        test.aligned(train.user_ids, train.item_ids),
        None if users is None else encode(users, train.user_ids),
        None if items is None else encode(items, train.item_ids),
    )


def _read_split(config: JobConfig, phase: Callable[[str], None]) -> tuple[Dataset, Interactions, Interactions]:
    kind = parse_split("none" if config.test else config.split)
    rng = np.random.default_rng(config.seed)
    phase(f"reading {config.table or Path(config.data.partition('://')[0]).name}")  # a URL may hold a password
    dataset = load(config.data, table=config.table, columns=config.columns, rng=rng, cache=config.cache)
    ratings = dataset.ratings
    if config.test is not None:
        table = config.table if "://" in config.test else None
        test = load(config.test, table=table, columns=config.columns, rng=rng, cache=config.cache, held_out=True)
        return dataset, ratings, test.ratings
    if config.split != "none":
        phase(f"splitting by {config.split}")
    train_rows, test_rows = split(ratings, kind, np.random.default_rng(config.seed))
    return dataset, ratings.take(train_rows).compacted(), ratings.take(test_rows)


def _extended(ids: pa.StringArray, more: pa.StringArray) -> pa.StringArray:
    """`ids`, and after them those that only `more` has."""
    return pa.concat_arrays([ids, more.filter(pc.invert(pc.is_in(more, value_set=ids)))])


def _padded(table: Matrix | None, rows: int) -> Matrix | None:
    """With rows of zeros at the end."""
    return None if table is None else np.pad(table, ((0, rows - len(table)), (0, 0)))
