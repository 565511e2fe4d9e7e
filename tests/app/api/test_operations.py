from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import torch
from starlette.types import Receive, Scope, Send

from app.api.limits import Limits
from app.engine.engine import Engine
from app.main import create_app
from app.server.shutdown import Shutdown
from app.settings import Settings
from models.checkpoint.reader import Checkpoint
from models.devices import DevicePlacement


def test_a_process_that_answers_is_live(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}


def test_a_service_with_a_model_is_ready(client: httpx.Client, loaded: Checkpoint) -> None:
    assert client.get("/health/ready").json() == {
        "status": "ready",
        "model_version": loaded.version,
        "failed_load": None,
    }


def test_a_service_without_a_model_is_live_but_not_ready(tmp_path: Path) -> None:
    app = create_app(Settings())
    engine = Engine(tmp_path, DevicePlacement(torch.device("cpu")), threads=1)

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app(
            scope | {"state": {"engine": engine, "limits": Limits(1, 1, 1, 1), "shutdown": Shutdown(0)}}, receive, send
        )

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://test") as client:
            return [await client.get(path) for path in ("/health/live", "/health/ready", "/models/current")]

    live, *waiting = asyncio.run(ask())
    engine.close()
    assert live.status_code == 200
    for answer in waiting:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"] == "urn:ratecast:problem:not-ready"
