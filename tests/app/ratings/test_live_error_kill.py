"""The live error of two workers, one of which is killed again and again, equals the one that is computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.registry.directory import publish
from tests.support.drafts import random_draft
from tests.support.live_error import rate_and_kill
from tests.support.service import Start

RATINGS, CLIENTS, KILLS, PAUSE = 600, 3, 2, 1.5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_lose_nothing_and_count_nothing_twice(start: Start, tmp_path: Path) -> None:
    publish(tmp_path, random_draft(seed=0))
    # With rows of new items, predictions rest on what the live error leaves out.
    with start(tmp_path, "--workers", "2", new_items="0") as (client, process):
        outcome = rate_and_kill(str(client.base_url), process, RATINGS, CLIENTS, KILLS, PAUSE)
    assert outcome.differences() == []
    assert outcome.killed > 0
    assert outcome.figures["all"]["ratings"] == RATINGS
