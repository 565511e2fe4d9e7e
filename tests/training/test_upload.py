"""What a request of an upload holds."""

from __future__ import annotations

from pathlib import Path

from tests.support.reading import read
from training.upload import Ratings


def test_ratings_without_a_time_are_sent_as_such(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating,timestamp\na,x,3,\na,y,4,1700000000\n")
    assert Ratings(read(path).ratings).body(slice(0, 2)) == {
        "users": ["a", "a"],
        "items": ["x", "y"],
        "ratings": [3, 4],
        "timestamps": [None, 1_700_000_000],
    }
