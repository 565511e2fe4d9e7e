from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from app.main import create_app
from app.observability.telemetry import Telemetry
from app.options import METRICS_FOLDER
from app.settings import Settings
from tests.support import ROOT
from tests.support.asgi import Caller, calling

JSON = (("content-type", "application/json"),)
METRICS = (ROOT / "docs/operations.md").read_text("utf-8").partition("\n## Metrics\n")[2]
DOCUMENTED = re.findall(r"^\| `(ratecast_\w+)` \|", METRICS, re.MULTILINE)


@pytest.fixture
def call(checkpoints: Path) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=checkpoints))) as call:
        yield call


def samples(text: str) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_documentation_names_the_metrics_that_there_are(call: Caller) -> None:
    families = re.findall(r"^# TYPE (\w+) (\w+)", call("GET", "/metrics").body.decode(), re.MULTILINE)
    assert sorted(name for name, _ in families) == sorted(DOCUMENTED)


def test_answers_are_counted_by_template_and_status(call: Caller) -> None:
    for user in ("1", "a/b", "secret"):
        call("GET", f"/users/{user}/top")
    call("GET", "/users/1/top", query=b"n=0")
    call("GET", "/items/1")
    call("GET", "/nowhere/secret")
    call("POST", "/predict", b"{", JSON)
    call("POST", "/predict", b"", (*JSON, ("content-length", "999999999")))
    text = call("GET", "/metrics").body.decode()
    found = samples(text)
    counts = {
        ("GET", "/users/{user:id}/top", 200): 3,
        ("GET", "/users/{user:id}/top", 422): 1,
        ("GET", "/items/{item:id}", 200): 1,
        ("GET", "none", 404): 1,
        ("POST", "/predict", 422): 1,
        ("POST", "/predict", 413): 1,
    }
    for (method, route, status), count in counts.items():
        assert found[f'ratecast_requests_total{{method="{method}",route="{route}",status="{status}"}}'] == count
    assert found['ratecast_request_seconds_count{route="/users/{user:id}/top"}'] == 4
    assert "secret" not in text


def test_predictions_and_lists_are_counted_by_what_they_rest_on(call: Caller) -> None:
    call("POST", "/predict", b'{"user": "1", "item": "?"}', JSON)
    call("POST", "/predict", b'{"users": ["1", "?", "?"], "items": ["1", "1", "?"]}', JSON)
    call("GET", "/users/?/top")
    call("POST", "/recommend", b'{"users": ["1", "?", "2"]}', JSON)
    found = samples(call("GET", "/metrics").body.decode())
    assert {name: value for name, value in found.items() if name.startswith("ratecast_predictions_total")} == {
        f'ratecast_predictions_total{{source="{source}"}}': 1.0
        for source in ("model", "user_bias", "item_bias", "global_mean")
    }
    assert found['ratecast_lists_total{source="model"}'] == 2
    assert found['ratecast_lists_total{source="popular"}'] == 2
    assert found['ratecast_batch_rows_sum{kind="lists"}'] == 3


def test_the_model_being_served_has_its_time(call: Caller) -> None:
    (version,) = re.findall(
        r'ratecast_model_created_timestamp_seconds\{version="(\S+)"\}', call("GET", "/metrics").body.decode()
    )
    assert version == call._state["engine"].versions.manifest.version


def test_requests_under_way_are_shown_while_they_are_and_no_longer(call: Caller) -> None:
    telemetry = call._state["telemetry"]
    assert samples(call("GET", "/metrics").body.decode())["ratecast_requests_under_way"] == 1  # the one that asks
    telemetry.flush()
    assert samples(telemetry.render().decode())["ratecast_requests_under_way"] == 0
    for body in (b"{", b'{"user": "1", "item": "2"}'):
        call("POST", "/predict", body, JSON)
    telemetry.flush()
    assert samples(telemetry.render().decode())["ratecast_requests_under_way"] == 0


def test_what_is_counted_is_written_down_on_the_thread_that_counts(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another one, answers that come meanwhile would be lost or counted twice."""
    telemetry, threads = call._state["telemetry"], set()
    monkeypatch.setattr(telemetry, "flush", lambda: threads.add(threading.current_thread()))
    call("GET", "/metrics")
    assert threads == {threading.current_thread()}


def test_gauges_of_workers_that_ended_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for pid in (ended.pid, os.getpid()):
        gauges = MmapedDict(str(tmp_path / f"gauge_livesum_{pid}.db"))
        gauges.write_value(
            mmap_key("ratecast_waiting_rows", "ratecast_waiting_rows", ["kind"], ["lists"], ""), 5.0, 0.0
        )
        gauges.close()
    assert samples(Telemetry().render().decode()) == {'ratecast_waiting_rows{kind="lists"}': 5.0}


def test_the_file_that_another_worker_is_making_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS_FOLDER, str(tmp_path))
    file = tmp_path / f"counter_{os.getpid()}.db"
    file.touch()
    telemetry = Telemetry()
    with monkeypatch.context() as patch:
        patch.setattr("app.observability.telemetry.READS", 1)
        with pytest.raises(struct.error):
            telemetry.render()
    made = threading.Timer(0.05, lambda: file.write_bytes(bytes(1 << 20)))
    made.start()
    assert telemetry.render() == b""
    made.join()


@pytest.mark.slow
def test_the_metrics_of_two_workers_add_up(
    start: Callable[..., AbstractContextManager[tuple[httpx.Client, object]]], checkpoints: Path
) -> None:
    """Whichever worker answers `/metrics`. Every request here comes on a connection of its own."""
    name = 'ratecast_requests_total{method="POST",route="/predict",status="200"}'
    with start(checkpoints, "--workers", "2") as (client, _):
        ratings = {
            client.post("/predict", json={"user": "1", "item": "2"}, headers={"connection": "close"}).text
            for _ in range(40)
        }
        assert len(ratings) == 1
        wanted = {name: 40, "ratecast_worker_starts_total": 2}
        deadline = time.monotonic() + 30
        while not wanted.items() <= samples(client.get("/metrics", headers={"connection": "close"}).text).items():
            assert time.monotonic() < deadline
