"""One rule of ids for a single text and for a column of them."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids import clean, of_numbers, trimmed, without_zero_fractions

RULE = {
    "21": "21",
    " 21\t": "21",
    "\u00a021\u2003": "21",
    "21.0": "21",
    "21.000": "21",
    "-3.0": "-3",
    "+3.0": "+3",
    "021.0": "021",
    "021": "021",
    "21.5": "21.5",
    "21.50": "21.50",
    "21.": "21.",
    ".0": ".0",
    "1e3": "1e3",
    "1e3.0": "1e3.0",
    "1.2.0": "1.2.0",
    "v1.0": "v1.0",
    "21.0 a": "21.0 a",
    "NA": "NA",
    "True": "True",
    "nan": "nan",
    "９.0": "９.0",
    "99999999999999999999.0": "99999999999999999999",
    "a  b": "a  b",
    "": "",
    "  ": "",
}


def cleaned(texts: list[str]) -> list[str]:
    """What a column of texts becomes, with an empty text where there is nothing."""
    return [text or "" for text in without_zero_fractions(trimmed(pa.array(texts, pa.string()))).to_pylist()]


@pytest.mark.parametrize(("text", "expected"), RULE.items())
def test_an_id_has_no_blanks_around_it_and_no_fraction_of_zero(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_a_column_follows_the_rule_of_a_single_id() -> None:
    assert cleaned(list(RULE)) == list(RULE.values())


PARTS = st.sampled_from(
    ["0", "1", ".", ".0", "-", "+", "e", " ", "\t", "\n", "\u00a0", "\u0085", "\u200b", "\ufeff", "\x1c", "é", "٣", "a"]
)


@given(st.lists(PARTS, max_size=6).map("".join))
def test_a_column_and_a_single_id_agree_on_any_text(text: str) -> None:
    assert cleaned([text, "1.0"])[0] == clean(text)


@given(st.text(max_size=8))
def test_a_clean_id_is_its_own(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(("type_", "bits"), [(pa.float64(), 53), (pa.float32(), 24), (pa.float16(), 11)])
def test_floats_are_ids_up_to_where_their_type_is_exact(type_: pa.DataType, bits: int) -> None:
    exact = pa.array([float((1 << bits) - 1), None, float("nan")]).cast(type_)
    assert of_numbers(exact).to_pylist() == [str((1 << bits) - 1), None, None]
    with pytest.raises(ValueError, match="an id is a number that a float does not hold"):
        of_numbers(pa.array([float(1 << bits)]).cast(type_))
