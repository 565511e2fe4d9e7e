"""The wiring of the service."""

from __future__ import annotations

import asyncio

from app.main import running


def test_what_runs_beside_the_service_has_ended_when_the_service_has() -> None:
    events: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # as a connection that is given back
            events.append("work has ended")

    async def serve() -> None:
        async with running(work, work):
            await asyncio.sleep(0)
            events.append("service stops")
        events.append("service has stopped")

    asyncio.run(serve())
    assert events == ["service stops", "work has ended", "work has ended", "service has stopped"]
