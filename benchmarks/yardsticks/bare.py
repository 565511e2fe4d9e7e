"""A bare ASGI app: what HTTP alone costs. `/echo` decodes columns and encodes them again, the rest gets a constant."""

from __future__ import annotations

from typing import Any

import msgspec

ANSWER = b'{"rating":3.634894371032715,"source":"model","model_version":"20261124T044523Z-bayes-3b0dbc"}'


class Columns(msgspec.Struct, forbid_unknown_fields=True):
    users: list[str]
    items: list[str]


decode, encode = msgspec.json.Decoder(Columns).decode, msgspec.json.Encoder().encode


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    answer = encode(decode(body)) if scope["path"] == "/echo" else ANSWER
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
