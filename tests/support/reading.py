"""Reading ratings from files, and ratings as plain rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from training.data import files
from training.data.interactions import NO_TIME, Interactions
from training.data.origin import Selection
from training.data.validation import Checked, checked
from training.options import SourceOptions

Row = tuple[str, str, float, int | None]


def read(*sources: object, **options: Any) -> Checked:
    """The ratings of paths, patterns and URLs of files."""
    return read_files([file for source in sources for file in files.found(str(source))], SourceOptions(**options))


def in_memory(name: str, content: bytes) -> files.File:
    return files.File(name, lambda: io.BytesIO(content))


def read_files(found: Sequence[files.File], known: SourceOptions) -> Checked:
    parts = (files.read(file, known, Selection(renamed=known.columns)) for file in found)
    return checked([parts], known.drop_ratings)


def rows_of(ratings: Interactions) -> list[Row]:
    """(user, item, rating, timestamp) of each rating, in order."""
    users, items = ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()
    times = [None] * len(ratings) if ratings.timestamps_N is None else ratings.timestamps_N.tolist()
    columns = (ratings.users_N.tolist(), ratings.items_N.tolist(), ratings.ratings_N.tolist(), times)
    return [
        (users[user], items[item], rating, None if time == NO_TIME else time)
        for user, item, rating, time in zip(*columns, strict=True)
    ]
