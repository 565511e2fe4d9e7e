"""Turns one column of any Arrow type into ids, ratings or seconds. It knows neither files nor which row is to blame.

Shapes: N rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from training.errors import DataError

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def ids(column: pa.Array) -> pa.DictionaryArray:
    """The column as strings without surrounding blanks, dictionary-encoded; null where an id is missing or blank.

    Numbers lose a fraction of zero, so that 21, 21.0 and "21" are one id. Two entries of the dictionary may be equal.
    """
    encoded = column if pt.is_dictionary(column.type) else column.dictionary_encode()
    texts = pc.utf8_trim_whitespace(_texts(encoded.dictionary))
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if texts.null_count:
        return texts.take(encoded.indices).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int32()), texts)


def numbers(column: pa.Array) -> tuple[Float64s, Bools]:
    """N numbers, and N marks of those that are missing, no numbers or not finite in single precision."""
    if (
        pt.is_integer(column.type)
        or pt.is_floating(column.type)
        or pt.is_decimal(column.type)
        or pt.is_null(column.type)
    ):
        values_N = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    elif _is_text(column.type):
        values_N = pd.to_numeric(_strings(column), errors="coerce").to_numpy(np.float64)
    else:
        raise DataError(f"values of type {column.type} are not numbers")
    return values_N, ~(np.abs(values_N) <= np.finfo(np.float32).max)


def seconds(column: pa.Array) -> tuple[Int64s, Bools]:
    """N times in whole seconds since 1970, and N marks of those that are missing or no times.

    Numbers are seconds. Dates, times and ISO 8601 texts without a zone are in UTC.
    """
    if pt.is_integer(column.type):
        return column.fill_null(0).cast(pa.int64()).to_numpy(), column.is_null().to_numpy(zero_copy_only=False)
    if pt.is_timestamp(column.type) or pt.is_date(column.type):
        return _whole_seconds(column.to_numpy(zero_copy_only=False))
    if _is_text(column.type):
        return _parsed_seconds(_strings(column))
    return _floored(numbers(column)[0])


def _texts(values: pa.Array) -> pa.StringArray:
    if pt.is_floating(values.type) or pt.is_decimal(values.type):
        return pa.array([_number_text(value) for value in values.to_pylist()], pa.string())
    if pt.is_nested(values.type) or pt.is_binary(values.type) or pt.is_large_binary(values.type):
        raise DataError(f"values of type {values.type} are not ids")
    return values.cast(pa.string())


def _number_text(value: float | None) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if value % 1 == 0 else str(value)


def _is_text(type_: pa.DataType) -> bool:
    value_type = type_.value_type if pt.is_dictionary(type_) else type_
    return any(is_kind(value_type) for is_kind in _TEXTS)


_TEXTS: tuple[Callable[[pa.DataType], bool], ...] = (pt.is_string, pt.is_large_string, pt.is_string_view)


def _strings(column: pa.Array) -> pd.Series[str]:
    return pd.Series(column.cast(pa.string()).to_numpy(zero_copy_only=False), dtype="str")


def _parsed_seconds(texts: pd.Series[str]) -> tuple[Int64s, Bools]:
    values_N, bad_N = _floored(pd.to_numeric(texts, errors="coerce").to_numpy(np.float64))
    if bad_N.any():
        times = pd.to_datetime(texts[bad_N], format="ISO8601", utc=True, errors="coerce").dt.tz_localize(None)
        values_N[bad_N], bad_N[bad_N] = _whole_seconds(times.to_numpy())
    return values_N, bad_N


def _whole_seconds(times_N: npt.NDArray[np.datetime64]) -> tuple[Int64s, Bools]:
    return times_N.astype("datetime64[s]").astype(np.int64), np.isnat(times_N)


def _floored(values_N: Float64s) -> tuple[Int64s, Bools]:
    bad_N = ~(np.abs(values_N) < 2.0**63)
    return np.floor(np.where(bad_N, 0, values_N)).astype(np.int64), bad_N
