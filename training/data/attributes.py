"""Side information as numbers: a table of attributes becomes one row of finite numbers for each id.

Shapes: N ids, A attributes.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.ids import trimmed
from training.errors import DataError

log = logging.getLogger(__name__)
Matrix = npt.NDArray[np.float32]
MAX_CATEGORIES = 64  # a text column with more is ignored: ml-100k has 795 zip codes and 21 occupations
MIN_SHARE = 0.005  # the effect of a rarer category cannot be learned
GAPS = ("NA", "N/A", "nan", "NaN", "null", "NULL", "None", r"\N")  # that programs write for a missing number
MAX_DEVIATIONS = 3.0  # an outlier counts like a value this far from the mean


def encode(table: pa.Table, ids: pa.StringArray) -> Matrix | None:
    """The attributes of `ids`, float32, (N, A); an id without attributes has zeros, the average.

    Numbers are standardised and cut off at `MAX_DEVIATIONS`; a missing one counts as the average. A text becomes one
    column per category, a list of texts likewise with several ones in a row, both centred. None if the table has
    nothing to encode.

    Raises DataError if a number is not finite in single precision, a column is neither numbers nor texts nor lists
    of texts, or the table has none of the ids.
    """
    rows = pc.index_in(ids, value_set=table["id"].combine_chunks())
    known_N = rows.is_valid().to_numpy(zero_copy_only=False)
    if not known_N.any():
        raise DataError("the attributes do not match the ratings: they have no id in common")
    if not known_N.all():
        log.info("%d of %d ids have no attributes", (~known_N).sum(), len(ids))
    aligned = table.take(rows.drop_null())
    blocks = [np.empty((aligned.num_rows, 0), np.float32)]
    for name in [name for name in aligned.column_names if name not in ("id", "title")]:
        try:
            blocks.append(_encoded(name, aligned[name].combine_chunks()))
        except pa.ArrowException as error:
            raise DataError(f"the attribute {name} has the type {aligned[name].type}, which cannot be used") from error
    encoded = np.hstack(blocks)
    matrix = np.zeros((len(ids), encoded.shape[1]), np.float32)
    matrix[known_N] = encoded
    return matrix if matrix.shape[1] else None


def _encoded(name: str, column: pa.Array) -> Matrix:
    if pa.types.is_list(column.type):
        return _many_hot(column)
    missing_N = column.is_null().to_numpy(False)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _standardised(name, column.to_numpy(zero_copy_only=False).astype(np.float64), missing_N)
    texts = trimmed(column.cast(pa.string()))
    missing_N = pc.or_kleene(texts.is_null(), pc.is_in(texts, value_set=pa.array(GAPS))).to_numpy(False)
    numbers = pd.to_numeric(texts.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not np.isnan(numbers[~missing_N]).any():
        return _standardised(name, numbers, missing_N)
    if len(texts.unique()) > MAX_CATEGORIES:
        log.info("ignoring the attribute %s: it has %d categories", name, len(texts.unique()))
        return np.empty((len(column), 0), np.float32)
    return _many_hot(pa.ListArray.from_arrays(np.arange(len(texts) + 1, dtype=np.int32), texts))


def _standardised(name: str, values_N: npt.NDArray[np.float64], missing_N: npt.NDArray[np.bool_]) -> Matrix:
    present = values_N[~missing_N]
    if not (np.abs(present) <= np.finfo(np.float32).max).all():
        raise DataError(f"the attribute {name} has a value that is not finite")
    if len(present) == 0 or present.std() == 0:
        return np.empty((len(values_N), 0), np.float32)
    scaled = np.clip((values_N - present.mean()) / present.std(), -MAX_DEVIATIONS, MAX_DEVIATIONS)
    return np.where(missing_N, 0.0, scaled).astype(np.float32)[:, None]


def _many_hot(lists: pa.ListArray) -> Matrix:
    """A column for each frequent value: 1 where a row's list has it, then centred; rows without a list are zero."""
    values = lists.flatten()
    values = (trimmed(values) if pa.types.is_string(values.type) else values).dictionary_encode()
    rows = pc.list_parent_indices(lists).to_numpy()
    present = values.is_valid().to_numpy(False)
    hot = np.zeros((len(lists), len(values.dictionary)), np.float32)
    hot[rows[present], values.indices.drop_null().to_numpy()] = 1
    missing_N = lists.is_null().to_numpy(False)
    if missing_N.all():
        return hot[:, :0]
    means = hot[~missing_N].mean(axis=0)
    hot = hot[:, (means >= MIN_SHARE) & (means < 1)]
    return np.where(missing_N[:, None], 0, hot - hot[~missing_N].mean(axis=0)).astype(np.float32)
