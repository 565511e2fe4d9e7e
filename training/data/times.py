"""The unit of times, decided over all files of a source, in one process and by several ranks. It knows no formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from models.times import LAST_SECOND
from training.communicator import SINGLE_PROCESS, Communicator
from training.data import columns
from training.data.origin import Origin
from training.errors import DataError

SECONDS = pa.timestamp("s")


@dataclass(frozen=True, slots=True)
class Ticks:
    """The times of consecutive rows.

    Attributes:
        ticks: `SECONDS`, or integers of a unit that is not known yet; null where there is none.
        origin, offset: where the rows are, and how many stand before them.
        name: of the column, for messages.
    """

    ticks: pa.Array
    origin: Origin
    offset: int
    name: str = "timestamp"

    @property
    def are_seconds(self) -> bool:
        return bool(self.ticks.type == SECONDS)

    def error(self, row: int, problem: str) -> DataError:
        """What is wrong with the time of a row."""
        time = self.ticks[row]
        shown = time.value if self.are_seconds else time.as_py()
        return self.origin.error(f"{self.name} {shown} {problem}", self.offset + row)


def in_seconds(chunks: Sequence[Ticks], communicator: Communicator = SINGLE_PROCESS) -> list[pa.Array]:
    """All times of a source in seconds since 1970. Numbers have the unit that the largest of them shows.

    See `columns.ticks_per_second`; of several ranks each has some of the times. Raises DataError for a number that
    would be of another unit, and for a time in the far future.
    """
    extremes = [pc.min_max(chunk.ticks).as_py() for chunk in chunks if not chunk.are_seconds]
    largest = max((abs(each or 0) for extreme in extremes for each in extreme.values()), default=0)
    largest = int(communicator.largest(float(largest)))
    return [_seconds(chunk, columns.ticks_per_second(largest), largest) for chunk in chunks]


def _seconds(chunk: Ticks, unit: int, largest: int) -> pa.Array:
    ticks = chunk.ticks
    if chunk.are_seconds:
        ticks = ticks.cast(pa.int64())
    elif unit > 1:
        others = pc.and_(pc.less(pc.abs(ticks), unit // 1000 * columns.MOST_SECONDS), pc.not_equal(ticks, 0))
        row = pc.index(others, True).as_py()
        if row >= 0:
            raise chunk.error(row, f"is in another unit than {largest}")
        known_C = ticks.fill_null(0).to_numpy() // unit
        ticks = pa.array(known_C, mask=ticks.is_null().to_numpy(zero_copy_only=False))
    row = pc.index(pc.greater(ticks, LAST_SECOND), True).as_py()
    if row >= 0:
        raise chunk.error(row, "is later than the year 2100")
    return ticks
