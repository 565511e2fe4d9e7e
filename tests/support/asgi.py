"""An ASGI app called in this process, byte for byte: no client tidies what a hostile one would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Caller:
    """Sends requests to an app whose lifespan has begun."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner, state: dict[str, Any]) -> None:
        self._app, self._runner, self._state = app, runner, state

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        query: bytes = b"",
        chunks: int = 1,
    ) -> Answer:
        """The answer to one request, its body in so many parts."""
        return self._runner.run(self._send(self._scope(method, path, headers, query), body, chunks))

    def at_once(self, *requests: tuple[str, str, bytes]) -> list[Answer]:
        """The answers to some requests of JSON, each of which sends its body only when all have been begun."""

        async def send_all() -> list[Answer]:
            begun = asyncio.Event()
            tasks = []
            for method, path, body in requests:
                scope = self._scope(method, path, [("content-type", "application/json")], b"")
                tasks.append(asyncio.ensure_future(self._send(scope, body, 1, begun)))
            await asyncio.sleep(0)
            begun.set()
            return await asyncio.gather(*tasks)

        return self._runner.run(send_all())

    def _scope(self, method: str, path: str, headers: Sequence[tuple[str, str]], query: bytes) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),  # as servers do
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query,
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": dict(self._state),
        }

    def wait(self, seconds: float) -> None:
        """Let the app do what it does beside answering."""
        self._runner.run(asyncio.sleep(seconds))

    async def _send(
        self, scope: dict[str, Any], body: bytes, chunks: int, others: asyncio.Event | None = None
    ) -> Answer:
        size = -(-len(body) // chunks) or 1
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        sent: list[Any] = []

        async def receive() -> Any:
            if others is not None:
                await others.wait()
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *rest = sent
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in rest))


@contextmanager
def calling(app: FastAPI) -> Iterator[Caller]:
    """The app, started; it is stopped with the block."""
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        state = runner.run(lifespan.__aenter__())
        try:
            yield Caller(app, runner, dict(state or {}))
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


def ask(call: Caller, method: str, target: str, body: object = None, status: int = 200) -> Any:
    """The JSON of the answer to a request, whose body is sent as JSON and whose answer has this status."""
    path, _, query = target.partition("?")
    content = b"" if body is None else json.dumps(body).encode()
    answer = call(
        method, path, content, [("content-type", "application/json")] if content else (), query=query.encode()
    )
    assert answer.status == status, answer.body
    return json.loads(answer.body)
