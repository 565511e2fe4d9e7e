"""The rule of ids: one for files, databases, requests and clients.

An id is a text. Blanks around it are not part of it, nor is a fraction of zero after a whole number: a data
frame with gaps turns 21 into 21.0. Nothing else changes: 021, NA, True and 1e3 are ids as they stand. Where an id is
given as a number, of JSON, msgpack, Arrow, Parquet or a database, it is the number's decimal digits.
"""

from __future__ import annotations

import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

MAX_LENGTH = 256  # characters that the service accepts by default
ZERO_FRACTION = r"^([+-]?\d+)\.0+$"
EXACT = 1 << 53  # whole numbers below this are all floats; beyond it two ids would be one
EXACT_BITS = {pa.float32(): 24, pa.float16(): 11}  # the same for shorter floats
NOT_HELD = "an id is a number that a float does not hold: give it as a text or an integer"
_zero_fraction = re.compile(ZERO_FRACTION, re.ASCII).match


def clean(text: str) -> str:
    """The id of a text; empty for a text of blanks."""
    text = text.strip()
    if text.endswith("0") and (whole := _zero_fraction(text)):
        return whole[1]
    return text


def of(given: str | float | Decimal) -> str:
    """The id that a text or a number stands for. Raises ValueError for a number that is none; see `of_number`."""
    return clean(given) if isinstance(given, str) else of_number(given)


def of_number(number: float | Decimal) -> str:
    """The id that a number stands for: its decimal digits, without zeros at the end of a fraction.

    Raises ValueError, whose message does not repeat the number, for one that is not finite and for a float so large
    that it may have lost digits.
    """
    if isinstance(number, int):
        return str(number)
    if isinstance(number, float):
        if not abs(number) < EXACT:
            raise ValueError(NOT_HELD)
        if number.is_integer() and number:
            return str(int(number))
        number = Decimal(repr(float(number)))
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def of_numbers(numbers: pa.Array) -> pa.StringArray:
    """`of_number` for an array of numbers of any type. Null stays null, and NaN becomes it.

    Raises ValueError as `of_number`, for shorter floats from where they are not exact.
    """
    if pt.is_integer(numbers.type):
        return numbers.cast(pa.string())
    if bits := EXACT_BITS.get(numbers.type):
        wide = numbers.cast(pa.float64())
        if pc.any(pc.greater_equal(pc.abs(wide), float(1 << bits))).as_py():
            raise ValueError(NOT_HELD)
    known = numbers.to_pylist()
    return pa.array([None if each is None or each != each else of_number(each) for each in known], pa.string())


def trimmed(texts: pa.StringArray) -> pa.StringArray:
    """Texts without surrounding blanks; null for what is blank."""
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def without_zero_fractions(texts: pa.StringArray) -> pa.StringArray:
    """`clean` for texts that are trimmed."""
    if not pc.any(pc.match_substring(texts, ".0"), min_count=0).as_py():
        return texts
    return pc.replace_substring_regex(texts, pattern=ZERO_FRACTION.replace(r"\d", "[0-9]"), replacement=r"\1")
