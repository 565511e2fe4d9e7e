"""The named MovieLens sets: their sources, the layouts of their archives, their items and users.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015. Their licences
forbid redistribution: the archives are fetched from their publisher, and live in a cache only.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import pyarrow as pa

from training.data import delimited
from training.data.catalogue import NO_GENRE, title_and_year
from training.data.described import ITEM_SCHEMA
from training.data.dialect import Dialect, Quotes
from training.data.fetch import Download, Wheel, fetch
from training.data.origin import NAMES, Selection
from training.data.validation import Part
from training.errors import DataError, SourceUnavailableError

Genres = Callable[[Mapping[str, str]], Sequence[str]]  # those of the record of an item
MOVIES = ("id", "title", "genres")
USER_ATTRIBUTES = ("id", "age", "gender", "occupation", "zip_code")

COMMA = Dialect(",")
U_DATA = Dialect("\t", NAMES, Quotes.NOTHING)
RATINGS_DAT = Dialect("::", NAMES, Quotes.NOTHING)

# The order of the flags in u.item.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
NO_TITLE = ("unknown", "unkonwn")  # item 267 of ml-100k, as GroupLens and as recbole spell it


@dataclass(frozen=True, slots=True)
class TextTable:
    """A text in an archive with one record per item or user; `fields` names the first ones, the others are ignored."""

    member: str
    delimiter: str
    fields: tuple[str, ...]
    encoding: str = "utf-8"
    header: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive and its layout.

    Attributes:
        items: with the fields id, title, perhaps year, and those that `item_genres` reads.
        users: with the fields USER_ATTRIBUTES; None if it describes no users.
        columns: our name → the archive's name of a column of the ratings.
    """

    source: Download | Wheel
    ratings: str
    dialect: Dialect
    items: TextTable
    item_genres: Genres
    users: TextTable | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A data set, its archives in the order in which they are tried, and a hint for when none can be fetched."""

    name: str
    archives: tuple[Archive, ...]
    hint: str = ""


class Content(NamedTuple):
    """The content of a set: its ratings, and items and users as `training.data.dataset.Dataset` has them."""

    ratings: Part
    items: pa.Table
    users: pa.Table | None


def read(named: NamedSet, cache: Path) -> Content:
    """The set, from the first of its archives that can be fetched.

    Raises SourceUnavailableError with every reason if none can, and DataError for an archive that cannot be read.
    """
    failures = []
    for archive in named.archives:
        try:
            return _content(archive, fetch(archive.source, cache))
        except SourceUnavailableError as error:
            failures.append(str(error))
    raise SourceUnavailableError(
        f"{named.name} cannot be fetched. Tried {'; then '.join(failures)}. {named.hint}"
        f"You can put a copy of {named.archives[0].source.file_name} into {cache} yourself."
    )


def _content(archive: Archive, path: Path) -> Content:
    try:
        with ZipFile(path) as file:
            table, origin = delimited.read(
                lambda: file.open(archive.ratings),
                f"{path}/{archive.ratings}",
                archive.dialect,
                Selection(renamed=archive.columns),
            )
            items = _items(_records(file, archive.items), archive.item_genres)
            users = None if archive.users is None else _users(_records(file, archive.users))
    except (BadZipFile, KeyError) as error:
        raise DataError(f"{path}: {error}") from error
    alone = replace(origin, places=None)  # other files beside the set may have other places
    return Content((table.to_batches(), alone), items, users)


def _records(file: ZipFile, table: TextTable) -> Iterable[dict[str, str]]:
    lines = (line.rstrip("\r") for line in file.read(table.member).decode(table.encoding).split("\n"))
    filled = (line for line in lines if line)
    split = csv.reader(filled) if table.delimiter == "," else (line.split(table.delimiter) for line in filled)
    for number, values in enumerate(split):
        if number or not table.header:
            yield dict(zip(table.fields, values, strict=False))


def _items(records: Iterable[Mapping[str, str]], genres: Genres) -> pa.Table:
    rows = []
    for record in records:
        title, year = _title_and_year(record["title"], record.get("year", ""))
        known = [genre for genre in genres(record) if genre not in NO_GENRE]
        rows.append({"id": record["id"], "title": title, "year": year, "genres": known, "labels": None})
    return pa.Table.from_pylist(rows, ITEM_SCHEMA)


def _title_and_year(text: str, year: str) -> tuple[str | None, int | None]:
    """The title without its year, and that year, or else the one in which `year` ends."""
    title, in_title = title_and_year(" ".join(text.split()))
    at_end = int(year[-4:]) if year[-4:].isdecimal() else None
    return None if title in NO_TITLE else title, in_title or at_end


def _users(records: Iterable[Mapping[str, str]]) -> pa.Table:
    rows = list(records)
    return pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in USER_ATTRIBUTES})


def _genres(separator: str) -> Genres:
    return lambda record: record["genres"].split(separator)


def ml_100k(source: Download) -> Archive:
    return Archive(
        source,
        "ml-100k/u.data",
        U_DATA,
        TextTable("ml-100k/u.item", "|", ("id", "title", "year", "video", "url", *GENRES), "latin-1"),
        lambda record: [genre for genre in GENRES if record[genre] == "1"],
        TextTable("ml-100k/u.user", "|", USER_ATTRIBUTES),
    )


def recbole_ml_100k(source: Download | Wheel) -> Archive:
    stem = "recbole/dataset_example/ml-100k/ml-100k"
    return Archive(
        source,
        f"{stem}.inter",
        Dialect("\t", quotes=Quotes.NOTHING),
        TextTable(f"{stem}.item", "\t", ("id", "title", "year", "genres"), header=True),
        _genres(" "),
        TextTable(f"{stem}.user", "\t", USER_ATTRIBUTES, header=True),
        {"user": "user_id:token", "item": "item_id:token", "rating": "rating:float", "timestamp": "timestamp:float"},
    )


def ml_1m(source: Download) -> Archive:
    return Archive(
        source,
        "ml-1m/ratings.dat",
        RATINGS_DAT,
        TextTable("ml-1m/movies.dat", "::", MOVIES, "latin-1"),
        _genres("|"),
        TextTable("ml-1m/users.dat", "::", ("id", "gender", "age", "occupation", "zip_code")),
    )


def ml_10m(source: Download) -> Archive:
    folder = "ml-10M100K"
    return Archive(
        source, f"{folder}/ratings.dat", RATINGS_DAT, TextTable(f"{folder}/movies.dat", "::", MOVIES), _genres("|")
    )


def csv_archive(source: Download) -> Archive:
    """The layout of ml-25m and later sets, whose members are in a folder of the set's name."""
    folder = source.file_name.removesuffix(".zip")
    return Archive(
        source,
        f"{folder}/ratings.csv",
        COMMA,
        TextTable(f"{folder}/movies.csv", ",", MOVIES, header=True),
        _genres("|"),
        columns={"user": "userId", "item": "movieId"},
    )


def _grouplens(name: str, sha256: str) -> Download:
    return Download(f"https://files.grouplens.org/datasets/movielens/{name}.zip", sha256)


RECBOLE = Wheel(
    "recbole==1.2.1",
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
ML_100K = _grouplens("ml-100k", "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229")
ML_1M = _grouplens("ml-1m", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20")
ML_10M = _grouplens("ml-10m", "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862")
ML_25M = _grouplens("ml-25m", "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa")
ML_32M = _grouplens("ml-32m", "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee")
ML_LATEST_SMALL = _grouplens("ml-latest-small", "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436")

SETS = {
    "ml-100k": NamedSet("ml-100k", (ml_100k(ML_100K), recbole_ml_100k(RECBOLE))),
    "ml-1m": NamedSet("ml-1m", (ml_1m(ML_1M),)),
    "ml-10m": NamedSet("ml-10m", (ml_10m(ML_10M),)),
    "ml-25m": NamedSet("ml-25m", (csv_archive(ML_25M),)),
    "ml-32m": NamedSet("ml-32m", (csv_archive(ML_32M),)),
    "ml-latest-small": NamedSet(
        "ml-latest-small",
        (csv_archive(ML_LATEST_SMALL),),
        "GroupLens replaces this set from time to time, so another sha256 may only mean a newer edition; "
        "its ratings.csv can be read as a file with --columns user=userId,item=movieId. ",
    ),
}
