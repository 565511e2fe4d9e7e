"""Numbers have the fewest digits that give the same float32."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.engine.types import digits, shortest

numbers = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20)


@given(values=numbers)
@example(values=[3.634894371032715, 2.0**-20, 0.1, -0.0, 521.0, 3.4028234663852886e38])
@settings(max_examples=300)
def test_they_give_the_same_float32_and_are_as_short_as_numpys(values: list[float]) -> None:
    given_N = np.array(values, np.float32)
    found = shortest(given_N)
    assert np.array_equal(np.array(found, np.float32), given_N)
    assert found == [float(str(value)) for value in given_N]
    assert json.loads(digits(given_N)) == found
    assert [json.loads(digits(value)) for value in given_N] == found


def test_what_is_no_number_is_null_and_other_arrays_are_read_too() -> None:
    table_2N = np.array([[3.634894371032715, np.nan], [1.5, 2.0]])
    assert shortest(table_2N[0]) == [3.6348944, None]
    assert shortest(table_2N[:, 0]) == [3.6348944, 1.5]
    assert digits(np.float32(3.634894371032715)) == b"3.6348944"
