"""How threads take turns while large bodies are read."""

from __future__ import annotations

import asyncio
import sys

from starlette.types import Message, Receive, Scope, Send

from app.middleware.access import BY_NAME, CHANGE, NEEDS, READ
from app.middleware.large_bodies import LARGE_BODY, SWITCH_SECONDS, LargeBodies

USUAL = sys.getswitchinterval()


def request(size: int, *, reads: bool) -> tuple[Scope, Receive]:
    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(size), "more_body": False}

    return {"type": "http", "method": "POST", BY_NAME: {}, NEEDS: READ if reads else CHANGE}, receive


async def sent(_: Message) -> None:
    pass


def test_threads_change_sooner_while_a_large_body_is_worked_on_and_as_usual_before_and_after() -> None:
    """Also while two are, of which one ends first, and after a failure; a small body changes nothing."""
    seen: dict[str, float] = {}
    events = {name: asyncio.Event() for name in ("begun", "go on")}

    async def slow(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        events["begun"].set()
        await events["go on"].wait()
        seen["the first has ended"] = sys.getswitchinterval()
        await send({"type": "http.response.start"})
        seen["both answer"] = sys.getswitchinterval()

    async def quick(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen["both"] = sys.getswitchinterval()
        await send({"type": "http.response.start"})

    async def small(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        seen["small"] = sys.getswitchinterval()

    async def failing(_: Scope, __: Receive, ___: Send) -> None:
        seen["failing"] = sys.getswitchinterval()
        raise ValueError

    async def main() -> None:
        bodies = LargeBodies(1 << 20, 5.0)
        first = asyncio.create_task(bodies.hand_on(slow, *request(LARGE_BODY + 1, reads=True), sent))
        await events["begun"].wait()
        await bodies.hand_on(quick, *request(LARGE_BODY + 1, reads=False), sent)
        events["go on"].set()
        await first
        await bodies.hand_on(small, *request(LARGE_BODY, reads=True), sent)
        try:
            await bodies.hand_on(failing, *request(LARGE_BODY + 1, reads=True), sent)
        except ValueError:
            seen["failed"] = sys.getswitchinterval()

    asyncio.run(main())
    shorter, usual = (round(seconds, 6) for seconds in (SWITCH_SECONDS, USUAL))
    assert {name: round(seconds, 6) for name, seconds in seen.items()} == {
        "both": shorter,
        "the first has ended": shorter,
        "both answer": usual,
        "small": usual,
        "failing": shorter,
        "failed": usual,
    }
