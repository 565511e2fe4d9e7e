"""The short way for the requests that matter most: predictions, the list of a user, and one rating to be stored.

FastAPI takes about 250 µs to route, resolve dependencies, validate and serialise; answering takes 20. So requests of a
plain form are answered here, before its router, by the same engine and encoders. Whatever is not plain (other
parameters, a body that may be invalid) is handed on untouched: FastAPI's routes accept a superset, give the same
answers, explain the errors and document all of it. Arrow and msgpack, which FastAPI does not read, are decoded here
alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import answering
from app.api.encodings import arrow, json, msgpack
from app.api.limits import Limits
from app.api.paths import RATING, TOP, rated_pair
from app.engine.engine import Engine
from app.engine.errors import CancelledRequestError
from app.engine.types import ListQuery, Pair, Pairs, Prediction, Predictions, RankBy
from app.errors import BodyTooLargeError, InvalidRequestError, answer_error
from app.middleware.gate import ROUTE
from models.errors import RatecastError

LARGE_BODY = 1 << 17  # decoding and encoding so many bytes takes about a millisecond: other requests should not wait
_FLAGS = {"true": True, "false": False}
_RANKS = {str(order): order for order in RankBy}
_plain_number = re.compile("[0-9]{1,9}")
_truth = TypeAdapter(bool)
_ROUTED = (json.MEDIA_TYPE.encode(),)  # what the routes can read too


class Codec(NamedTuple):
    """A way to write a `POST /predict` body and its answer. `decode` raises ValueError, or gives None to hand it on."""

    decode: Callable[[bytes], Pair | Pairs | None]
    encode: Callable[[Any], bytes]


class FrontDoor:
    """Middleware: answers what is plain, hands on the rest.

    Args:
        app: FastAPI's router and what lies before it.
        limits: of one request.
        max_body_bytes: of a request body.
    """

    def __init__(self, app: ASGIApp, limits: Limits, max_body_bytes: int) -> None:
        self.app = app
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._json_decoder = json.Decoder(limits.id_length)
        self._codecs: Mapping[bytes, Codec] = {
            json.MEDIA_TYPE.encode(): Codec(self._plain_json, json.encode_predictions),
            msgpack.MEDIA_TYPE.encode(): Codec(self._checked(msgpack.decode), msgpack.encode_predictions),
            arrow.MEDIA_TYPE.encode(): Codec(self._checked(arrow.decode), arrow.encode_predictions),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            path, method = scope["path"], scope["method"]
            try:
                if method == "POST" and path == "/predict":
                    await self._predict(scope, receive, send)
                    return
                if method == "GET" and path.startswith("/users/") and path.endswith("/top"):
                    await self._top(scope, receive, send)
                    return
                if method == "PUT" and (pair := rated_pair(scope)) is not None:
                    await self._rate(pair, scope, receive, send)
                    return
            except RatecastError as error:
                await answer_error(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(reversed(scope["headers"]))  # of a header given twice the first counts, as for the routes
        media_type = headers.get(b"content-type", b"")
        codec = self._codecs.get(media_type)
        scope[ROUTE] = scope["path"]
        length = headers.get(b"content-length", b"")
        if codec is None or (length.isdigit() and int(length) > self._max_body_bytes):
            await self.app(scope, receive, send)
            return
        body = await self._read(receive)
        large = len(body) > LARGE_BODY
        try:
            asked = await asyncio.to_thread(codec.decode, body) if large else codec.decode(body)
        except ValueError as error:
            raise InvalidRequestError(("body",), str(error)) from error
        strict = _strict(scope["query_string"])
        if strict is None and media_type not in _ROUTED:
            raise InvalidRequestError(("query", "strict"), "true or false is wanted")
        if asked is None or strict is None:
            await self.app(scope, _again(body, receive), send)
            return
        engine: Engine = scope["state"]["engine"]
        answer: Prediction | Predictions | None
        if isinstance(asked, Pair):
            answer = await answering.prediction(engine, asked, receive, strict=strict)
        else:
            answer = await answering.predictions(engine, asked, receive, strict=strict)
        await _send(send, await asyncio.to_thread(codec.encode, answer) if large else codec.encode(answer), media_type)

    def _plain_json(self, body: bytes) -> Pair | Pairs | None:
        asked = self._json_decoder(body)
        if isinstance(asked, Pairs) and not len(asked.users) == len(asked.items) <= self._limits.pairs:
            return None
        return asked

    def _checked(self, decode: Callable[[bytes], Pair | Pairs]) -> Callable[[bytes], Pair | Pairs]:
        """A decoder that also holds what it decodes to the limits; it raises ValueError or InvalidRequestError."""

        def checked(body: bytes) -> Pair | Pairs:
            asked = decode(body)
            if isinstance(asked, Pairs):
                self._limits.check_pairs(asked)
            else:
                self._limits.check_id(asked.user, "body", "user")
                self._limits.check_id(asked.item, "body", "item")
            return asked

        return checked

    async def _read(self, receive: Receive) -> bytes:
        message = await receive()
        if (
            message["type"] == "http.request"
            and not message["more_body"]
            and len(message["body"]) <= self._max_body_bytes
        ):
            return bytes(message.get("body", b""))  # nearly always
        parts, received = [], 0
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            received += len(parts[-1])
            if received > self._max_body_bytes:
                raise BodyTooLargeError(f"a request body has at most {self._max_body_bytes} bytes")
            if not message.get("more_body"):
                return b"".join(parts) if len(parts) > 1 else bytes(parts[0])
            message = await receive()
        raise CancelledRequestError("the client has gone before it had sent its request")

    async def _rate(self, pair: Pair, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(reversed(scope["headers"]))
        if headers.get(b"content-type") not in _ROUTED or b"content-length" not in headers:
            await self.app(scope, receive, send)
            return
        body = await self._read(receive)
        asked = json.decode_rating(body)
        if asked is None:
            await self.app(scope, _again(body, receive), send)
            return
        scope[ROUTE] = RATING
        engine: Engine = scope["state"]["engine"]
        answer = await answering.rate(engine, self._limits, pair.user, pair.item, asked.rating, asked.timestamp)
        await _send(send, json.encode_members(answer), json.MEDIA_TYPE.encode())

    async def _top(self, scope: Scope, receive: Receive, send: Send) -> None:
        wish = _list_wish(scope["path"][len("/users/") : -len("/top")], scope["query_string"], self._limits)
        if wish is None:
            await self.app(scope, receive, send)
            return
        scope[ROUTE] = TOP
        query, strict = wish
        answer = await answering.top_list(scope["state"]["engine"], query, receive, strict=strict)
        await _send(send, json.encode_list(answer), json.MEDIA_TYPE.encode())


def _strict(query: bytes) -> bool | None:
    """The parameter `strict`; None to hand the request on where it is not a truth value."""
    if not query:
        return False
    try:
        return _truth.validate_python(
            dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("strict", False)
        )
    except ValidationError:
        return None


def _list_wish(user: str, query: bytes, limits: Limits) -> tuple[ListQuery, bool] | None:
    """The list that is asked for, and whether strictly; None where something about it is not plain."""
    if not 0 < len(user) <= limits.id_length or "/" in user:  # the router knows which path has such an id
        return None
    if not query:
        return ListQuery(user=user), False
    wish: dict[str, Any] = {}
    for name, value in (
        part.split("=", 1) if "=" in part else (part, "") for part in query.decode("latin-1").split("&")
    ):
        if name == "n" and _plain_number.fullmatch(value) and 0 < int(value) <= limits.list_length:
            wish["n"] = int(value)
        elif name == "rank_by" and value in _RANKS:
            wish["rank_by"] = _RANKS[value]
        elif name in ("exclude_seen", "strict") and value in _FLAGS:
            wish[name] = _FLAGS[value]
        else:
            return None
    strict = wish.pop("strict", False)
    return ListQuery(user=user, **wish), strict


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, and then what else comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _send(send: Send, body: bytes, media_type: bytes) -> None:
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
