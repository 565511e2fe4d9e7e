"""Converts a column of any Arrow type to ids, ratings or times. It knows neither files nor rows.

Shapes: C rows of one batch. Every function raises TypeError or pa.ArrowException for a type that it cannot turn, and
ValueError for a value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from models.ids import of_numbers, trimmed

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MOST_SECONDS = 10**11  # a larger number counts smaller units than seconds


def ids(column: pa.Array) -> pa.DictionaryArray:
    """C trimmed texts, dictionary-encoded; null where an id is missing or blank. See `models.ids`.

    Whole numbers of any type have no fraction. Two entries of the dictionary may be equal.
    """
    storage = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    encoded = storage if pt.is_dictionary(storage.type) else storage.dictionary_encode()
    texts = trimmed(_texts(encoded.dictionary, column.type))
    if texts.null_count:
        return texts.take(encoded.indices).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int32()), texts)


def numbers(column: pa.Array) -> tuple[Float64s, Bools]:
    """C numbers, and C marks of those that are missing, not numbers or not finite in single precision."""
    column = _decoded(column)
    if _is_text(column.type):
        values_C = pd.to_numeric(_strings(column), errors="coerce").to_numpy(np.float64)
    elif pt.is_boolean(column.type) or pt.is_temporal(column.type):
        raise TypeError(f"values of type {column.type} are not numbers")
    else:
        values_C = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values_C, ~(np.abs(values_C) <= np.finfo(np.float32).max)


def ticks(column: pa.Array) -> tuple[Int64s, Bools, bool]:
    """C times since 1970, C marks of those that are missing or not times, and whether all are in seconds for certain.

    Numbers are ticks of a unit that is not known yet; see `validation.in_seconds`. Dates, times and ISO 8601 texts
    become seconds; without a zone they are in UTC.
    """
    column = _decoded(column)
    if pt.is_integer(column.type):
        known_C = column.fill_null(0).cast(pa.int64()).to_numpy()
        return known_C, column.is_null().to_numpy(zero_copy_only=False), False
    if pt.is_timestamp(column.type) or pt.is_date(column.type):
        return *_whole_seconds(column.to_numpy(zero_copy_only=False)), True
    if _is_text(column.type):
        return _parsed_ticks(_strings(column))
    return *_floored(numbers(column)[0]), False


def missing(column: pa.Array) -> Bools:
    """C marks of values that are null, not a number, or a blank text."""
    missing_C: Bools = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if _is_text(column.type):
        missing_C |= pc.equal(pc.utf8_trim_whitespace(column.cast(pa.string())), "").fill_null(True).to_numpy(False)
    return missing_C


def ticks_per_second(largest: int) -> int:
    """The unit of times of which the largest is this many ticks from 1970: 1, 10³, 10⁶ or 10⁹ in a second.

    Seconds are below 10¹¹, the year 5138; milliseconds below 10¹⁴, and so on. So milliseconds before March 1973, if
    there are no later ones, are taken for seconds.
    """
    return next((unit for unit in (1, 10**3, 10**6) if largest < unit * MOST_SECONDS), 10**9)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def _texts(values: pa.Array, type_: pa.DataType) -> pa.StringArray:
    if isinstance(type_, pa.BaseExtensionType):  # UUIDs
        known = pa.ExtensionArray.from_storage(type_, values).to_pylist()
        return pa.array([None if value is None else str(value) for value in known], pa.string())
    if pt.is_floating(values.type) or pt.is_decimal(values.type):
        return of_numbers(values)
    if pt.is_nested(values.type) or pt.is_boolean(values.type):
        raise TypeError(f"values of type {type_} are not ids")
    return values.cast(pa.string())


def _is_text(type_: pa.DataType) -> bool:
    return bool(pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_))


def _strings(column: pa.Array) -> pd.Series[str]:
    return pd.Series(column.cast(pa.string()).to_numpy(zero_copy_only=False), dtype="str")


def _parsed_ticks(texts: pd.Series[str]) -> tuple[Int64s, Bools, bool]:
    values_C, bad_C = _floored(pd.to_numeric(texts, errors="coerce").to_numpy(np.float64))
    no_numbers = bool(bad_C.all())
    if bad_C.any():
        times = pd.to_datetime(texts[bad_C], format="ISO8601", utc=True, errors="coerce").dt.tz_localize(None)
        values_C[bad_C], bad_C[bad_C] = _whole_seconds(times.to_numpy())
    return values_C, bad_C, no_numbers


def _whole_seconds(times_C: npt.NDArray[np.datetime64]) -> tuple[Int64s, Bools]:
    seconds_C = times_C.astype("datetime64[s]").astype(np.int64)
    bad_C = np.isnat(times_C) | (np.abs(seconds_C) >= MOST_SECONDS)
    return np.where(bad_C, 0, seconds_C), bad_C


def _floored(values_C: Float64s) -> tuple[Int64s, Bools]:
    bad_C = ~(np.abs(values_C) < 2.0**63)
    return np.floor(np.where(bad_C, 0, values_C)).astype(np.int64), bad_C
