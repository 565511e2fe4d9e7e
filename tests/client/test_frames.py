"""Frames go in and come out in their order, whatever the number of requests, with pyarrow and without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ratecast_client as r
from ratecast_client import frames

from tests.client.conftest import Connect
from tests.support.faulty_server import answer, faulty_server, raw
from tests.support.service import Start

COLUMNS = ["predicted_rating", "predicted_source"]
SOURCE = Path(r.__file__).parents[1]


@pytest.fixture(params=["arrow", "json"])
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How predictions travel: without pyarrow as JSON."""
    if request.param == "json":
        monkeypatch.setattr(frames, "_pyarrow", lambda: None)
    return str(request.param)


@pytest.fixture
def client(connect: Connect, service: str) -> Any:
    return connect(service)


def some_pairs(rows: int) -> pd.DataFrame:
    """Known and unknown users and items, an index of any order and the actual ratings beside them."""
    rng = np.random.default_rng(0)
    columns = {
        "user": rng.integers(1, 350, rows),
        "rating": rng.integers(1, 6, rows),
        "item": rng.integers(1, 500, rows),
    }
    return pd.DataFrame(columns, index=rng.permutation(rows))


def test_predictions_are_added_in_the_order_of_the_rows(client: Any, wire: str) -> None:
    pairs = some_pairs(1000)
    found = client.predict_frame(pairs, batch=300)
    assert list(found.columns) == [*pairs.columns, *COLUMNS]
    pd.testing.assert_frame_equal(found[pairs.columns.tolist()], pairs)
    known = client.predict_many(pairs["user"], pairs["item"])
    assert found["predicted_rating"].tolist() == np.array(known.ratings, np.float32).tolist()
    assert found["predicted_source"].tolist() == list(known.sources)
    assert found["predicted_rating"].dtype == np.float32
    assert found["predicted_source"].cat.categories.tolist() == ["global_mean", "item_bias", "model", "user_bias"]
    assert found.attrs["model_versions"] == [known.model_version]
    assert list(pairs.columns) == ["user", "rating", "item"]


@pytest.mark.parametrize(
    "kind", [str, object, "string", "category", "Int64", "uint16", "int64[pyarrow]", "string[pyarrow]"]
)
def test_ids_may_be_of_any_kind_that_pandas_has(client: Any, wire: str, kind: Any) -> None:
    pairs = some_pairs(50)
    typed = pairs.astype({"user": kind, "item": kind})
    expected = client.predict_frame(pairs)[COLUMNS]
    pd.testing.assert_frame_equal(client.predict_frame(typed)[COLUMNS], expected)


def test_texts_and_integers_may_be_mixed(client: Any, wire: str) -> None:
    mixed = pd.DataFrame({"user": pd.Series([1, "nobody", "2"], dtype=object), "item": [3, 4, 5]})
    assert client.predict_frame(mixed)["predicted_source"].tolist() == ["model", "item_bias", "model"]


def test_columns_may_have_other_names(client: Any, wire: str) -> None:
    other = some_pairs(10).rename(columns={"user": "person", "item": "film"})
    found = client.predict_frame(other, user="person", item="film", prefix="ratecast_")
    assert list(found.columns)[3:] == ["ratecast_rating", "ratecast_source"]


def test_columns_that_are_there_are_not_replaced(client: Any) -> None:
    with pytest.raises(ValueError, match="has a column 'rating'"):
        client.predict_frame(some_pairs(3), prefix="")


def test_a_frame_without_rows_gets_its_columns(client: Any, wire: str) -> None:
    for empty in (some_pairs(0), pd.DataFrame({"user": [], "item": []}, dtype=object)):
        found = client.predict_frame(empty)
        assert len(found) == 0
        assert list(found.columns)[-2:] == COLUMNS


@pytest.mark.parametrize(
    ("users", "error", "said"),
    [
        ([1, None, 2], ValueError, "column 'user' has rows without an id"),
        (["1", None, "2"], ValueError, "column 'user' has rows without an id"),
        ([b"1", b"2", b"3"], TypeError, "integer"),
        ([1.0, 2.0**53, 3.0], ValueError, "a number that a float does not hold"),
    ],
)
def test_ids_that_are_missing_or_no_ids_are_refused_before_anything_is_sent(
    connect: Connect, users: Any, error: type[Exception], said: str
) -> None:
    client = connect("http://127.0.0.1:9")
    with pytest.raises(error, match=said):
        client.predict_frame(pd.DataFrame({"user": users, "item": [1, 2, 3]}))


def test_ids_that_a_frame_has_turned_into_floats_are_whole_again(client: Any, wire: str) -> None:
    pairs = some_pairs(100)
    floats = pairs.astype({"user": "float64", "item": "float64"})
    expected = client.predict_frame(pairs)["predicted_rating"]
    assert client.predict_frame(floats)["predicted_rating"].tolist() == expected.tolist()
    assert client.top(196.0).items == client.top("196").items
    assert client.predict_many([1e-7, 1.5, -0.0], [7] * 3) == client.predict_many(["0.0000001", "1.5", "-0"], [7] * 3)


def test_strict_frames_name_who_is_unknown(client: Any, wire: str) -> None:
    with pytest.raises(r.NotFoundError, match="nobody"):
        client.predict_frame(pd.DataFrame({"user": ["1", "nobody"], "item": [1, 2]}), strict=True)


@pytest.fixture(scope="module")
def narrow_service(start: Start, checkpoints: Path) -> Iterator[str]:
    """URL of a service that takes 4 KiB in a request."""
    with start(checkpoints, max_body_bytes="4096") as (http, _):
        yield str(http.base_url)


def test_parts_that_are_too_large_for_the_service_are_halved(connect: Connect, narrow_service: str, wire: str) -> None:
    pairs = some_pairs(1500)
    client = connect(narrow_service, retries=r.Retries(attempts=1))
    found = client.predict_frame(pairs)
    assert found["predicted_rating"].iloc[-1] == np.float32(client.predict(*pairs[["user", "item"]].iloc[-1]).rating)
    with pytest.raises(r.InvalidError) as caught:
        client.predict_frame(pd.DataFrame({"user": ["x" * 5000], "item": ["1"]}))
    assert caught.value.status == 413


@pytest.mark.parametrize("fault", [b"", b"garbage", b"\xff\xff\xff\xff\x10\x00\x00\x00"])
def test_an_answer_that_is_not_arrow_is_unexpected(connect: Connect, fault: bytes) -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(fault), fault)
    with faulty_server([raw(body)]) as server, pytest.raises(r.UnexpectedAnswerError):
        connect(server.url).predict_frame(some_pairs(3))


def test_an_answer_of_another_length_is_unexpected(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_pyarrow", lambda: None)
    short = {"ratings": [4.5], "sources": ["model"], "model_version": "v1"}
    with (
        faulty_server([answer(200, short)]) as server,
        pytest.raises(r.UnexpectedAnswerError, match="1 predictions for 3 pairs"),
    ):
        connect(server.url).predict_frame(some_pairs(3))


def test_long_lists_are_asked_for_in_smaller_requests(client: Any) -> None:
    found = client.recommend_frame(range(1, 203), n=1000, only=["1", "2"], exclude_seen=False)
    assert len(found) == 2 * 202


def test_lists_come_as_a_row_for_each_item(client: Any) -> None:
    users = [1, 2, "nobody"]
    found = client.recommend_frame(users, n=4, batch=2, rank_by="rating")
    assert list(found.columns) == ["user", "rank", "item", "rating", "title", "year", "source"]
    lists = client.recommend(users, n=4, rank_by="rating").lists
    expected = [(one.user, item.item, np.float32(item.rating), item.title) for one in lists for item in one.items]
    columns = found[["user", "item", "rating", "title"]].astype(object)
    assert list(columns.where(columns.notna(), None).itertuples(index=False, name=None)) == expected
    assert found["rank"].tolist() == [1, 2, 3, 4] * 3
    assert found["year"].dtype == "Int64"
    assert set(found["source"][8:]) == {"popular"}
    assert len(client.recommend_frame([])) == 0


def test_ratings_of_a_frame_are_stored_in_parts(client: Any) -> None:
    given = pd.DataFrame(
        {"user": ["framed"] * 5, "item": [1, 2, 3, 4, 9999], "rating": [1, 2.5, 3, 4, 5], "when": range(100, 105)}
    )
    stored = client.rate_frame(given, timestamp="when", batch=2)
    assert (stored.stored, stored.unknown_items) == (5, 1)
    kept = {rating.item: (rating.rating, rating.timestamp) for rating in client.ratings("framed").ratings}
    assert kept == {"1": (1.0, 100), "2": (2.5, 101), "3": (3.0, 102), "4": (4.0, 103), "9999": (5.0, 104)}
    client.delete_user("framed")
    assert client.rate_frame(given[:0]).stored == 0


@pytest.mark.parametrize(
    "when",
    [
        [1732600000, None],
        ["2024-11-26T05:46:40Z", None],
        [pd.Timestamp("2024-11-26T05:46:40"), pd.NaT],
        pd.array([1732600000, None], "Int64"),
    ],
)
def test_times_of_a_frame_may_be_of_any_kind_and_missing(client: Any, when: Any) -> None:
    given = pd.DataFrame({"user": ["timed"] * 2, "item": [1, 2], "rating": [1, 2], "when": when})
    assert client.rate_frame(given, timestamp="when").stored == 2
    kept = {rating.item: rating.timestamp for rating in client.ratings("timed").ratings}
    assert kept == {"1": 1732600000, "2": None}
    client.delete_user("timed")


def test_an_upload_with_a_key_of_ones_own_can_be_started_anew(client: Any) -> None:
    given = pd.DataFrame({"user": ["again"] * 4, "item": [1, 2, 3, 4], "rating": [1, 2, 3, 9]})
    key = f"upload-{type(client).__name__}"
    with pytest.raises(r.InvalidError):  # of the second part
        client.rate_frame(given, idempotency_key=key, batch=2)
    client.delete_rating("again", "1")
    client.rate_frame(given.replace({"rating": {9: 4}}), idempotency_key=key, batch=2)
    assert [rating.item for rating in client.ratings("again").ratings] == ["2", "3", "4"]  # the first was not repeated
    client.delete_user("again")


def test_without_pandas_everything_but_frames_works() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
sys.modules["pandas"] = None  # as where it is not installed
import ratecast_client
client = ratecast_client.Client("http://127.0.0.1:9", retries=ratecast_client.Retries(attempts=1))
try:
    client.predict("1", "2")
except ratecast_client.TransportError:
    print("asked")
try:
    client.recommend_frame([])
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["asked", "frames need pandas: pip install 'ratecast-client[pandas]'"]
