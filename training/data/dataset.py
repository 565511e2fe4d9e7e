"""Reads ratings, and what is known of items and users, from any source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoint.manifest import Snapshot
from models.did_you_mean import did_you_mean
from models.stored_items import StoredItem
from models.urls import MASK, is_url, without_secrets
from training.data import database, files, movielens, store
from training.data.interactions import Interactions
from training.data.origin import Origin, Selection
from training.data.validation import Part, checked
from training.errors import ConfigError, DataError
from training.options import NOTHING_KNOWN, SourceOptions

SYNTHETIC = re.compile(r"synthetic:(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The data of a job's sources.

    Attributes:
        ratings: at most one per pair of user and item.
        items: id, title, year (int32) and genres (list of strings), null where unknown, of all items that the source
            describes, rated or not, in its order; None if it describes none.
        users: id and the attributes of the source as it has them, strings; None if it describes none.
        rows: of the source, of which some are no ratings: they were dropped (`dropped`) because they mean "not rated",
            or because a later one rates the same pair (`duplicates`).
        scale: the lowest and the highest rating of the source, or those that were given.
        snapshot: the state of the ratings store that was read; None for any other source.
        live_errors: how far off the service was for the ratings that it stored lately; none for any other source.
        stored_items: what that store says of items; none for any other source.
        erased_users, erased_ratings: how many users of files have deleted themselves in a ratings store, and how many
            of their ratings were left out.
        fingerprint: sha256, in hexadecimal, of the ratings and ids; the same for the same ratings in another format.
    """

    name: str
    ratings: Interactions
    items: pa.Table | None = None
    users: pa.Table | None = None
    rows: int
    dropped: int = 0
    duplicates: int = 0
    scale: tuple[float, float]
    snapshot: Snapshot | None = None
    live_errors: tuple[store.LiveError, ...] = ()
    stored_items: tuple[StoredItem, ...] = ()
    erased_users: int = 0
    erased_ratings: int = 0
    fingerprint: str


@dataclass(slots=True)
class _Found:
    """The other data of the sources. Of each kind, that of the first source that has it counts."""

    items: pa.Table | None = None
    users: pa.Table | None = None
    snapshot: Snapshot | None = None
    live_errors: tuple[store.LiveError, ...] = ()
    stored_items: tuple[StoredItem, ...] = ()


def load(
    sources: Sequence[str],
    options: SourceOptions = NOTHING_KNOWN,
    *,
    rng: np.random.Generator,
    cache: Path,
    fitted: bool = True,
    erasures: str | None = None,
) -> Dataset:
    """Read the ratings of all sources.

    Args:
        sources: each the name of a MovieLens set, `synthetic:USERSxITEMSxRATINGS`, a database URL, or files: a path, a
            folder, a pattern, the URL of one of these, or `-` for standard input.
        options: how to read databases and files.
        rng: what synthetic ratings are drawn from; nothing else is random.
        cache: folder for what is fetched.
        fitted: a model is to be fitted to the ratings, which takes two users and two items.
        erasures: URL of the ratings store whose deleted users are left out of other sources; by default the stores
            among the sources.

    Raises DataError if a source cannot be read or there are no ratings, and ConfigError if there is no such source or
    it does not take the options.
    """
    name = shown_name(sources, options)
    beside = _Found()
    erased = _erased(sources if erasures is None else [erasures], options, given=erasures is not None)
    with ExitStack() as connections:
        parts = (_parts(source, options, rng, cache, beside, connections) for source in sources)
        content = checked(parts, options.drop_ratings, erased)
    ratings = content.ratings
    for side, count in (("user", ratings.users), ("item", ratings.items)):
        if count == 1 and fitted:
            raise DataError(f"{name}: all ratings are of a single {side}; at least two are needed")
    return Dataset(
        name=name,
        ratings=ratings,
        items=beside.items,
        users=beside.users,
        rows=content.rows,
        dropped=content.dropped,
        duplicates=content.duplicates,
        scale=checked_scale(ratings.scale, options, name),
        snapshot=beside.snapshot,
        live_errors=beside.live_errors,
        stored_items=beside.stored_items,
        erased_users=content.erased_users,
        erased_ratings=content.erased_ratings,
        fingerprint=_fingerprint(ratings),
    )


def _erased(places: Sequence[str], options: SourceOptions, *, given: bool) -> pa.StringArray:
    """The users that the ratings stores among some places have deleted. Raises DataError if a given one is none."""
    if given:
        store.check(places[0])
    found = [store.erased_users(place) for place in places if given or _is_database(place, options)]
    return pa.concat_arrays([pa.array([], pa.string()), *found])


def checked_scale(found: tuple[float, float], options: SourceOptions, name: str) -> tuple[float, float]:
    """The scale that was given, or the one that was found. Raises DataError for ratings outside the scale given."""
    if options.scale is None:
        return found
    low, high = options.scale
    if found[0] < low or found[1] > high:
        raise DataError(
            f"{name}: its ratings are from {found[0]:g} to {found[1]:g}, outside --scale {low:g},{high:g}; "
            "--drop-rating drops those that mean “not rated”"
        )
    return options.scale


def shown_name(sources: Sequence[str], options: SourceOptions) -> str:
    """The name of the data: that of the table, or of the first file."""
    first = options.table or ("query" if options.query else sources[0])
    first = first if first in movielens.SETS or first.startswith("synthetic:") else _file_name(first)
    return first if len(sources) == 1 else f"{first} and {len(sources) - 1} more"


def _file_name(source: str) -> str:
    """The last part of a path or URL; of a URL without one, the host or the scheme."""
    scheme, mark, rest = without_secrets(source).partition("://")
    place = rest.removeprefix(MASK).removeprefix("@") if mark else scheme
    return place.rstrip("/").rpartition("/")[2] or scheme


def _parts(
    source: str,
    options: SourceOptions,
    rng: np.random.Generator,
    cache: Path,
    beside: _Found,
    connections: ExitStack,
) -> Iterator[Part]:
    if is_files(source, options):
        _check_known(source)
        selection = Selection(renamed=options.columns)
        found = files.found(source)
        yield from (files.read(file, options, selection, may_be_empty=len(found) > 1) for file in found)
    elif named := movielens.SETS.get(source):
        _refuse_columns(source, options)
        content = movielens.read(named, cache)
        beside.items, beside.users = beside.items or content.items, beside.users or content.users
        yield content.ratings
    elif source.startswith("synthetic:"):
        _refuse_columns(source, options)
        yield _synthetic(source, rng)
    else:
        beside.snapshot = store.snapshot(source)  # before the ratings, so that changes meanwhile count as new
        beside.live_errors = store.live_errors(source)
        beside.stored_items = store.items(source)
        batches, origin = connections.enter_context(database.opened(source, options))
        is_ratings = options.table is None or options.table.rpartition(".")[2] == store.RATINGS
        yield batches, replace(origin, is_store=beside.snapshot is not None and is_ratings)


def is_files(source: str, options: SourceOptions) -> bool:
    """Whether a source is files, here or behind a URL. Raises ConfigError if it does not fit the options."""
    is_other = source in movielens.SETS or source.startswith("synthetic:")
    return not _is_database(source, options) and not is_other


def _is_database(source: str, options: SourceOptions) -> bool:
    asked = options.table is not None or options.query is not None
    scheme = source.partition("://")[0].partition("+")[0] if is_url(source) else ""
    is_file = not scheme or scheme in fsspec.available_protocols()
    if asked and is_file:
        raise ConfigError("--table and --query need a database URL, but one source is not a database URL")
    if options.table is not None and options.query is not None:
        raise ConfigError("give --table or --query, not both")
    if not asked and not is_file:
        raise ConfigError("a database needs --table NAME, the table that holds the ratings, or --query SELECT")
    return asked


def _refuse_columns(source: str, options: SourceOptions) -> None:
    if options.columns:
        raise ConfigError(f"--columns is for files and tables; the columns of {source} are known")


def _check_known(source: str) -> None:
    """Raise ConfigError for a word that is neither a file nor like a path."""
    path = Path(source)
    if not (path.suffix or path.exists() or "/" in source or is_url(source) or source == files.STANDARD_INPUT):
        raise ConfigError(
            f"{source}: not a data set ({', '.join(movielens.SETS)}, synthetic:USERSxITEMSxRATINGS), not a database "
            f"URL, and not a file or folder{did_you_mean(source, movielens.SETS)}"
        )


def _synthetic(source: str, rng: np.random.Generator) -> Part:
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
    return [batch], Origin(source)


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
