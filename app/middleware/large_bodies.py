"""Large bodies of requests: how many bytes of them are in memory together. One is worked on at a time, one that reads
and one that changes what is stored.

Each is bounded, but many at once would take many times that: a body of 16 MB is read into objects of 60. While a parser
works on one, no other thread of Python runs, and several would be no faster. It knows no route. A body is received
before its request waits for its turn, so that nobody who sends slowly keeps others waiting.
While a thread works on a large body, the event loop waits a shorter time for its turn to run. When the last of them is
done with, the memory that they took goes back to the system.
"""

from __future__ import annotations

import asyncio
import sys

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.engine.errors import CancelledRequestError, OverloadedError
from app.errors import body_too_large
from app.memory import release_memory
from app.middleware.access import BY_NAME, NEEDS, Access

LARGE_BODY = 1 << 17  # bytes; up to here a body is read in about a millisecond, into a few MB of objects
TOGETHER = 4  # the largest bodies that are in memory together
WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))  # nothing reads one that they have
# For which a thread that reads a large body keeps the event loop waiting. Python's 5 ms are better otherwise: a PUT,
# whose statements run on another thread, takes 0.7 ms with them, and 1.0 ms with this.
SWITCH_SECONDS = 0.0005
RELEASE_PAUSE = 1.0  # after a large body, before memory is given back: others that follow can use it


class LargeBodies:
    """Hands on requests, with at most `most` bytes of body. Those with a large one wait for at most some seconds.

    Attributes:
        small: up to so many bytes, a request whose body is declared to have them need not pass here.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self.small = min(LARGE_BODY, most)
        self._held = 0  # bytes of the bodies that were received and are not done with
        self._turns = {reads: asyncio.Lock() for reads in (True, False)}
        self._working, self._switch_seconds = 0, sys.getswitchinterval()
        self._release_timer: asyncio.TimerHandle | None = None

    async def hand_on(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, most: int | None = None) -> None:
        """Let an application answer a request, whose body is not declared to be a small one, and has `most` bytes.

        Raises BodyTooLargeError, OverloadedError, and CancelledRequestError if the client goes before it has sent all.
        """
        most = self._most if most is None else min(most, self._most)
        declared = scope[BY_NAME].get(b"content-length", b"")
        if declared.isdigit() and int(declared) > most:
            raise body_too_large(most, of_settings=most == self._most)
        if not declared.isdigit() and scope["method"] in WITHOUT_BODY:
            await app(scope, receive, send)
            return
        body = _Body()
        try:
            while body.more:
                await body.receive(receive)
                self._held += body.added
                self._check(body, most)
            if body.size <= LARGE_BODY:
                await app(scope, body.again(receive), send)
            else:
                await self._in_turn(app, scope, body.again(receive), send)
        finally:
            self._held -= body.size
            if body.size > LARGE_BODY:
                self._release_memory_soon()

    def _release_memory_soon(self) -> None:
        if self._release_timer is not None:
            self._release_timer.cancel()
        loop = asyncio.get_running_loop()
        self._release_timer = loop.call_later(RELEASE_PAUSE, loop.run_in_executor, None, release_memory)

    def _check(self, body: _Body, most: int) -> None:
        if body.size > most:
            raise body_too_large(most, of_settings=most == self._most)
        if body.size > LARGE_BODY and self._held > TOGETHER * self._most:
            raise OverloadedError("the bodies of other requests take all the room")

    async def _in_turn(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """The turn ends with the beginning of the answer: who reads it slowly keeps nobody waiting."""
        turns = self._turns[scope[NEEDS].access is Access.READ]
        try:
            async with asyncio.timeout(self._seconds):
                await turns.acquire()
        except TimeoutError:
            raise OverloadedError("other requests with large bodies take too long") from None
        ended = False
        self._begin_work()

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._end_work()
                turns.release()

        async def ending(message: Message) -> None:
            end()
            await send(message)

        try:
            await app(scope, receive, ending)
        finally:
            end()

    def _begin_work(self) -> None:
        self._working += 1
        sys.setswitchinterval(SWITCH_SECONDS)

    def _end_work(self) -> None:
        self._working -= 1
        if not self._working:
            sys.setswitchinterval(self._switch_seconds)


class _Body:
    """The body of a request, as it arrives: its bytes so far, those of the last part, and whether more will come."""

    def __init__(self) -> None:
        self.size, self.added, self.more = 0, 0, True
        self._parts: list[bytes] = []

    async def receive(self, receive: Receive) -> None:
        message = await receive()
        if message["type"] != "http.request":
            raise CancelledRequestError("the client closed its connection before it had sent its request")
        self._parts.append(message.get("body", b""))
        self.added = len(self._parts[-1])
        self.size += self.added
        self.more = message.get("more_body", False)

    def again(self, receive: Receive) -> Receive:
        """Receives all of it at once, and then what else comes."""

        async def received() -> Message:
            if not self._parts:
                return await receive()
            whole = b"".join(self._parts)
            self._parts.clear()
            return {"type": "http.request", "body": whole, "more_body": False}

        return received
