"""Ratings with what else their source knows, and the one function that reads any source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoint.manifest import Snapshot
from models.did_you_mean import did_you_mean
from training.data import database, delimited, movielens, parquet
from training.data.interactions import Interactions
from training.data.validation import Checked, Origin, checked
from training.errors import ConfigError, DataError

SYNTHETIC = re.compile(r"synthetic:(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What was read from one source.

    Attributes:
        ratings: at most one per pair of user and item.
        items: id, title, year (int32) and genres (list of strings), null where unknown, of all items that the source
            describes, rated or not, in its order; None where it describes none.
        users: id and the attributes of the source as it has them, strings; None where it describes none.
        duplicates: rows dropped because a later one rates the same pair.
        snapshot: the state of the ratings store that was read; None for any other source.
        fingerprint: sha256, in hexadecimal, of the ratings and ids; the same for the same ratings in another format.
    """

    name: str
    ratings: Interactions
    items: pa.Table | None = None
    users: pa.Table | None = None
    duplicates: int = 0
    snapshot: Snapshot | None = None
    fingerprint: str


def load(
    source: str,
    *,
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    rng: np.random.Generator,
    cache: Path,
    held_out: bool = False,
) -> Dataset:
    """Read ratings from a named set, a file, a database or a generator.

    Args:
        source: name of a MovieLens set, `synthetic:USERSxITEMSxRATINGS`, database URL, or path.
        table: table of the database, which may be given as SCHEMA.TABLE.
        columns: our name → the source's name, for files and tables.
        rng: what synthetic ratings are drawn from; nothing else is random.
        cache: folder for what is fetched.
        held_out: the ratings are only to be evaluated, so a single user or item is enough.

    Raises DataError if the source cannot be read or holds no ratings, and ConfigError if there is no such source or it
    does not take the arguments.
    """
    is_database, path = "://" in source, Path(source)
    if is_database and table is None:
        raise ConfigError("a database needs --table NAME, the table that holds the ratings")
    if not is_database and table is not None:
        raise ConfigError(f"--table needs a database URL, and {source} is not one")
    if columns and (source in movielens.SETS or source.startswith("synthetic:")):
        raise ConfigError(f"--columns is for files and tables; the columns of {source} are known")
    name, snapshot, items, users = source, None, None, None
    if named := movielens.SETS.get(source):
        content, items, users = movielens.read(named, cache)
    elif source.startswith("synthetic:"):
        content = _synthetic(source, rng)
    elif table is not None:
        name, snapshot = table, database.snapshot(source)  # before the ratings: what changes meanwhile counts as new
        content = database.read(source, table, columns)
    elif path.suffix.lower() == ".parquet":
        name, content = path.name, parquet.read(path, columns)
    else:
        name, content = path.name, delimited.read(path, _layout(path), columns)
    ratings = content.ratings
    for side, count in (("user", ratings.users), ("item", ratings.items)):
        if count == 1 and not held_out:
            raise DataError(f"{table or source}: all ratings are of a single {side}; at least two are needed")
    return Dataset(
        name=name,
        ratings=ratings,
        items=items,
        users=users,
        duplicates=content.duplicates,
        snapshot=snapshot,
        fingerprint=_fingerprint(ratings),
    )


def _layout(path: Path) -> delimited.Layout:
    if layouts := [layout for ending, layout in delimited.LAYOUTS.items() if path.name.lower().endswith(ending)]:
        return layouts[0]
    if path.is_dir():
        raise DataError(f"{path}: is a directory, not a file")
    raise ConfigError(
        f"{path}: not a data set ({', '.join(movielens.SETS)}, synthetic:USERSxITEMSxRATINGS), not a database URL, "
        f"and not a file of a known kind ({', '.join([*delimited.LAYOUTS, '.parquet'])})"
        + did_you_mean(str(path), movielens.SETS)
    )


def _synthetic(source: str, rng: np.random.Generator) -> Checked:
    shape = SYNTHETIC.fullmatch(source)
    if shape is None:
        raise ConfigError(f"{source}: not of the form synthetic:USERSxITEMSxRATINGS")
    users, items, ratings = map(int, shape.groups())
    if min(users, items) < 2 or not 2 <= ratings <= users * items // 2:
        raise ConfigError(
            f"{source}: needs two users, two items, and ratings of at least two and at most half of all pairs"
        )
    from training.data.synthetic import planted  # noqa: PLC0415 - compiles kernels, which other sources do not need

    users_N, items_N, ratings_N = planted(users, items, ratings, rng)
    batch = pa.RecordBatch.from_pydict({"user": users_N, "item": items_N, "rating": ratings_N})
    return checked([batch], Origin(source))


def _fingerprint(ratings: Interactions) -> str:
    digest = hashlib.sha256()
    for ids in (ratings.user_ids, ratings.item_ids):
        digest.update(np.append(pc.binary_length(ids).to_numpy(), -1).astype("<i8").tobytes())
        digest.update("".join(ids.to_pylist()).encode())
    for values_N in (ratings.users_N, ratings.items_N, ratings.ratings_N, ratings.timestamps_N):
        if values_N is not None:
            little_endian_N = np.ascontiguousarray(values_N, values_N.dtype.newbyteorder("<"))
            digest.update(little_endian_N.data)
    return digest.hexdigest()
