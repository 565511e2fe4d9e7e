"""Predictions, lists and ratings as pandas frames of any length, split into requests that the service accepts.

pandas is imported when the first of these functions is called. Predictions are sent as Arrow if pyarrow is installed,
else as JSON; the resulting frames are the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from ratecast_client import operations, types
from ratecast_client.errors import InvalidError, UnexpectedAnswerError
from ratecast_client.exchange import Call, Request
from ratecast_client.operations import Id, ListOptions, Time

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

ARROW = "application/vnd.apache.arrow.stream"
TOO_LARGE = 413
VERSIONS = "model_versions"  # in the attributes of a frame
PREDICTION_COLUMNS = {"ratings": "rating", "sources": "source"}  # of JSON → of Arrow
LIST_COLUMNS = ("user", "rank", "item", "rating", "title", "year", "source")


def predict_frame(
    frame: pd.DataFrame,
    *,
    user: str = "user",
    item: str = "item",
    prefix: str = "predicted_",
    strict: bool = False,
    batch: int = operations.MAX_PAIRS,
) -> Call[pd.DataFrame]:
    """A copy of the frame with the columns `predicted_rating` and `predicted_source`; index and order are kept.

    `attrs["model_versions"]` lists the versions that answered: several if the service changed versions meanwhile.

    Args:
        frame: has a column of users and one of items. Ids are strings or numbers; none may be missing.
        user, item: names of these columns.
        prefix: prefix of the names of the new columns.
        strict: raise NotFoundError for an unknown user or item.
        batch: rows in a request, at most the service's limit (`RATECAST_MAX_PAIRS`).
    """
    users, items = _ids(frame[user]), _ids(frame[item])
    ask = _ask_json if _pyarrow() is None else _ask_arrow

    def part(rows: range) -> Call[pd.DataFrame]:
        cut = slice(rows.start, rows.stop)
        return ask(users.iloc[cut], items.iloc[cut], strict)

    answered = yield from _in_batches(len(frame), batch, part)
    return _with_predictions(frame, answered, prefix)


def recommend_frame(
    users: Iterable[Id], *, strict: bool = False, batch: int = 1_000, **options: Unpack[ListOptions]
) -> Call[pd.DataFrame]:
    """Lists for any number of users, one row per item: user, rank from 1, item, rating, title, year, source."""
    columns: dict[str, list[Any]] = {name: [] for name in LIST_COLUMNS}
    for call in operations.recommend_each(users, strict=strict, batch=batch, **options):
        for found in (yield from call):
            _add_list(columns, found)
    lists: pd.DataFrame = _pandas().DataFrame(columns)
    return lists.astype({"rank": "int64", "rating": "float32", "year": "Int64"})


def rate_frame(
    frame: pd.DataFrame,
    *,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    timestamp: str | None = None,
    idempotency_key: str | None = None,
    batch: int = 10_000,
) -> Call[types.StoredRatings]:
    """Store the ratings of a frame, `batch` rows in a request. A request stores all of its rows or none.

    The column of timestamps has seconds since 1970, ISO 8601 or times; a missing one is an unknown time.

    What was stored before an error stays stored. If you give an `idempotency_key`, you can start the upload again
    within seven days, and no request is carried out twice.
    """
    users, items = (operations.id_texts(_ids(frame[name])) for name in (user, item))
    given = frame[rating].tolist()
    stamps = None if timestamp is None else _times(frame[timestamp])
    key = idempotency_key or secrets.token_hex(16)

    def part(rows: range) -> Call[types.StoredRatings]:
        cut = slice(rows.start, rows.stop)
        return operations.rate_many(
            users[cut],
            items[cut],
            given[cut],
            timestamps=None if stamps is None else stamps[cut],
            idempotency_key=f"{key}-{rows.start}-{rows.stop}",
        )

    stored = yield from _in_batches(len(frame), batch, part)
    return types.StoredRatings(
        stored=sum(one.stored for one in stored),
        unknown_items=sum(one.unknown_items for one in stored),
        model_version=stored[-1].model_version,
    )


def _in_batches(rows: int, batch: int, ask: Callable[[range], Call[T]]) -> Call[list[T]]:
    """Ask for all rows in order, with at least one request. A batch that is too large for the service is halved."""
    waiting = [range(begin, min(begin + batch, rows)) for begin in range(0, max(rows, 1), batch)][::-1]
    answered = []
    while waiting:
        part = waiting.pop()
        try:
            answered.append((yield from ask(part)))
        except InvalidError as error:
            if error.status != TOO_LARGE or len(part) < 2:
                raise
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
    return answered


def _ask_json(users: pd.Series[Any], items: pd.Series[Any], strict: bool) -> Call[pd.DataFrame]:
    found = yield from operations.predict_many(users.tolist(), items.tolist(), strict=strict)
    columns = {name: list(getattr(found, of_json)) for of_json, name in PREDICTION_COLUMNS.items()}
    try:
        return _checked(_pandas().DataFrame(columns), len(users), found.model_version)
    except ValueError as error:
        raise UnexpectedAnswerError(f"POST /predict: {error}") from error


def _ask_arrow(users: pd.Series[Any], items: pd.Series[Any], strict: bool) -> Call[pd.DataFrame]:
    pa = _pyarrow()
    columns = {"user": _array(users), "item": _array(items)}
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    target = operations.target("/predict", strict=strict)
    request = Request("POST", target, sink.getvalue().to_pybytes(), {"Content-Type": ARROW})
    answer = yield request
    try:
        found = pa.ipc.open_stream(answer.body).read_all()
        return _checked(found.to_pandas(), len(users), found.schema.metadata[b"model_version"].decode())
    except (pa.ArrowException, ValueError, KeyError, TypeError, OSError) as error:
        raise operations.unexpected(request, error) from error


def _checked(part: pd.DataFrame, rows: int, version: str) -> pd.DataFrame:
    """The predictions of a batch: numbers in the model's precision, strings as categories."""
    if len(part) != rows:
        raise ValueError(f"{len(part)} predictions for {rows} pairs")
    kept = part.astype({"rating": "float32", "source": "category"})
    kept.attrs[VERSIONS] = [version]
    return kept


def _with_predictions(frame: pd.DataFrame, parts: list[pd.DataFrame], prefix: str) -> pd.DataFrame:
    columns = {f"{prefix}{name}": _joined([part[name] for part in parts]) for name in parts[0].columns}
    if taken := columns.keys() & set(frame.columns):
        raise ValueError(f"the frame already has a column {min(taken)!r}: choose another prefix")
    predicted = frame.assign(**columns)
    predicted.attrs[VERSIONS] = list(dict.fromkeys(part.attrs[VERSIONS][0] for part in parts))
    return predicted


def _joined(parts: list[pd.Series[Any]]) -> Any:
    """One column without an index, so that values are assigned by position and not by label."""
    pandas = _pandas()
    if isinstance(parts[0].dtype, pandas.CategoricalDtype):
        return pandas.api.types.union_categoricals(parts, sort_categories=True).remove_unused_categories()
    return pandas.concat(parts).to_numpy()


def _add_list(columns: dict[str, list[Any]], found: types.UserList) -> None:
    for rank, listed in enumerate(found.items, 1):
        row = (found.user, rank, listed.item, listed.rating, listed.title, listed.year, found.source)
        for name, value in zip(LIST_COLUMNS, row, strict=True):
            columns[name].append(value)


def _ids(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of ids as integers or strings. Raises ValueError for missing ids, TypeError for what is no id."""
    pandas = _pandas()
    if column.isna().any():
        raise ValueError(f"column {column.name!r} has rows without an id")
    if isinstance(column.dtype, pandas.CategoricalDtype):
        return _ids(column.astype(column.cat.categories.dtype))
    if pandas.api.types.is_integer_dtype(column.dtype) or isinstance(column.dtype, pandas.StringDtype):
        return column
    texts: pd.Series[Any] = pandas.Series(operations.id_texts(column), dtype="string")
    return texts


def _times(column: pd.Series[Any]) -> list[Time | None]:
    """A column of times; None for a missing one. Seconds of a column with gaps are floats, and made integers again."""
    times = column.convert_dtypes()
    found: list[Time | None] = times.astype(object).where(times.notna(), None).tolist()
    return found


def _array(ids: pd.Series[Any]) -> Any:
    return _pyarrow().Array.from_pandas(ids)


def _pandas() -> Any:
    try:
        import pandas  # noqa: PLC0415 - takes half a second, and only frames need it
    except ImportError as error:
        raise ImportError("frames need pandas: pip install 'ratecast-client[pandas]'") from error
    return pandas


def _pyarrow() -> Any:
    """pyarrow, or None if it is not installed."""
    try:
        import pyarrow  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return pyarrow
