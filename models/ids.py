"""The rule of ids: one for files, databases, requests and clients.

An id is a text. Blanks around it are not part of it, nor is a fraction of zero after a whole number: a data
frame with gaps turns 21 into 21.0. Nothing else changes: 021, NA, True and 1e3 are ids as they stand.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

MAX_LENGTH = 256  # characters that the service accepts by default
ZERO_FRACTION = r"^([+-]?\d+)\.0+$"
_zero_fraction = re.compile(ZERO_FRACTION, re.ASCII).match


def clean(text: str) -> str:
    """The id of a text; empty for a text of blanks."""
    text = text.strip()
    if text.endswith("0") and (whole := _zero_fraction(text)):
        return whole[1]
    return text


def trimmed(texts: pa.StringArray) -> pa.StringArray:
    """Texts without surrounding blanks; null for what is blank."""
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def without_zero_fractions(texts: pa.StringArray) -> pa.StringArray:
    """`clean` for texts that are trimmed."""
    if not pc.any(pc.match_substring(texts, ".0"), min_count=0).as_py():
        return texts
    return pc.replace_substring_regex(texts, pattern=ZERO_FRACTION.replace(r"\d", "[0-9]"), replacement=r"\1")
