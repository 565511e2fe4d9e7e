"""The summary of what was read: rows, scale, frequencies of ratings, times."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.ids import MAX_LENGTH
from training.data.columns import Float64s, Int64s
from training.data.dataset import Dataset

log = logging.getLogger(__name__)
MOST_VALUES = 11  # that are counted separately: 0, 1 … 10, or 0.5, 1 … 5
BINS = 10
FAR = 2  # times the largest gap between other ratings
EARLY = 315_532_800  # 1980-01-01; dates such as 20191231 and 201912312359, read as times, are before it
SPIKE = 5  # times as often as the rating next to it
ROUNDED = r"^\d[.,]\d+E\+\d+$"
Bin = tuple[float, float, int]


def summary(dataset: Dataset) -> dict[str, Any]:
    """Figures of what was read, keyed as `--json` prints them. Warns of ratings that may mean “not rated”."""
    values, counts = _counted(dataset.ratings.ratings_N)
    _warn_of_codes(values, counts)
    for side, ids in (("user", dataset.ratings.user_ids), ("item", dataset.ratings.item_ids)):
        _warn_of_long_ids(side, ids)
        _warn_of_rounded_ids(side, ids)
    if dataset.erased_ratings:
        log.info(
            "%d ratings of %d users were left out, because these users were deleted in the ratings store",
            *(dataset.erased_ratings, dataset.erased_users),
        )
    times = dataset.ratings.first_and_last
    if times is not None and 0 < times[1] < EARLY:
        log.warning("all times are before 1980: numbers are read as seconds since 1970, not as years, days or dates")
    return {
        "rows": dataset.rows,
        "dropped": dataset.dropped,
        "duplicates": dataset.duplicates,
        "erased_users": dataset.erased_users,
        "erased_ratings": dataset.erased_ratings,
        "scale": list(dataset.scale),
        "first_rating": None if times is None else _iso(times[0]),
        "last_rating": None if times is None else _iso(times[1]),
        "histogram": _histogram(values, counts),
    }


def _counted(ratings_N: npt.NDArray[np.float32]) -> tuple[Float64s, Int64s]:
    """The distinct ratings, ascending, and how often each occurs."""
    found = pc.value_counts(pa.array(ratings_N))
    values, counts = found.field("values").to_numpy(), found.field("counts").to_numpy()
    order = np.argsort(values)
    return values[order].astype(np.float64), counts[order]


def _histogram(values: Float64s, counts: Int64s) -> list[Bin]:
    """(lowest, highest, how many) of each value, or of equal parts of the scale if there are many values."""
    if len(values) <= MOST_VALUES:
        return [(value, value, count) for value, count in zip(values.tolist(), counts.tolist(), strict=True)]
    counts, edges = np.histogram(values, BINS, weights=counts)
    counts = counts.astype(np.int64)
    bounds = np.round(edges, 4).tolist()
    return list(zip(bounds[:-1], bounds[1:], counts.tolist(), strict=True))


def _warn_of_codes(values: Float64s, counts: Int64s) -> None:
    """Warn of a lowest or highest rating that stands apart: 0, -1 or 99 often mean “not rated”."""
    if len(values) <= FAR:
        return
    gaps = np.diff(values)
    is_low = values[0] <= 0 < values[1] and (
        gaps[0] >= FAR * gaps[1:].max() or (values[0] == 0 and counts[0] >= SPIKE * counts[1])
    )
    is_high = values[-1] >= FAR * abs(values[-2]) and gaps[-1] >= FAR * gaps[:-1].max()
    for code, count, stands_apart in ((values[0], counts[0], is_low), (values[-1], counts[-1], is_high)):
        if stands_apart:
            log.warning(
                "%d ratings (%.1f %%) are %g, apart from all others: if that means “not rated”, give --drop-rating %g",
                *(count, 100 * count / counts.sum(), code, code),
            )


def _warn_of_long_ids(side: str, ids: pa.StringArray) -> None:
    long = pc.sum(pc.greater(pc.utf8_length(ids), MAX_LENGTH)).as_py()
    if long:
        log.warning(
            "%d %s ids are longer than %d characters: the service refuses them unless RATECAST_MAX_ID_LENGTH is higher",
            *(long, side, MAX_LENGTH),
        )


def _warn_of_rounded_ids(side: str, ids: pa.StringArray) -> None:
    """Warn of ids such as 1.23457E+15: spreadsheets save long numbers so, and several become one."""
    rounded = ids.filter(pc.match_substring_regex(ids, ROUNDED))
    if len(rounded):
        log.warning(
            "%d %s ids, such as %s, look like numbers that a spreadsheet rounded; different ids may have become one",
            *(len(rounded), side, rounded[0]),
        )


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
