"""What a type checker tells those who use the client. `make lint` checks this file; nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import pandas as pd
import ratecast_client as r


def blocking(client: r.Client, frame: pd.DataFrame) -> None:
    """Answers are of their classes; wrong arguments are errors, or mypy calls the comments unused."""
    assert_type(client.predict("1", 2), r.PairPrediction)
    assert_type(client.predict("1", 2).rating, float)
    assert_type(client.top("1", n=3, rank_by="rating", only=[1, "2"]), r.TopItems)
    assert_type(client.recommend_each(["1"]), Iterator[r.UserList])
    assert_type(client.predict_frame(frame), pd.DataFrame)
    assert_type(client.metrics(), str)
    with r.Client() as same:
        assert_type(same, r.Client)
    client.predict(None, "2")  # type: ignore[arg-type]
    client.top("1", rank_by="stars")  # type: ignore[arg-type]
    client.top("1", m=3)  # type: ignore[call-arg]
    client.item("1").price  # type: ignore[attr-defined]  # noqa: B018


async def asynchronous(client: r.AsyncClient, frame: pd.DataFrame) -> None:
    """The same, awaited."""
    assert_type(await client.predict("1", 2), r.PairPrediction)
    assert_type(await client.top("1", n=3), r.TopItems)
    assert_type(client.recommend_each(["1"]), AsyncIterator[r.UserList])
    assert_type(await client.predict_frame(frame), pd.DataFrame)
    await client.rate("1", "2", "five")  # type: ignore[arg-type]
