"""Paths with an id in them. An id may hold any character, slashes and line ends too.

Where a path has two ids, or erases somebody, an id is one segment of it, and its own slashes are percent-encoded.
Servers decode them before anybody routes, so they are looked up in what the client sent. The other paths with an id
take plain slashes too, and are tried after those.
"""

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

from app.engine.types import Pair

SLASH = "\U0010ffff"  # stands for a slash of an id while a path is routed; a noncharacter, which no text should hold


class IdConvertor(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value.replace(SLASH, "/")

    def to_string(self, value: str) -> str:
        return value


class SegmentConvertor(IdConvertor):
    regex = r"[^/]+"


def rated_pair(scope: Scope) -> Pair | None:
    """The user and the item of `RATING`, as the router would find them; None for another path."""
    match (scope.get("raw_path") or b"").split(b"/"):
        case [b"", b"users", user, b"ratings", item] if user and item:
            try:
                return Pair(
                    unquote(user.decode("ascii"), errors="strict"), unquote(item.decode("ascii"), errors="strict")
                )
            except UnicodeDecodeError:
                return None
    return None


class EncodedSlashes:
    """ASGI middleware: lets the router tell a slash of an id from one of the path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if scope["type"] == "http" and b"%2f" in raw.lower():
            segments = raw.decode("latin-1").split("/")
            path = "/".join(unquote(segment, errors="replace").replace("/", SLASH) for segment in segments)
            scope = {**scope, "path": path}
        await self.app(scope, receive, send)


register_url_convertor("id", IdConvertor())
register_url_convertor("segment", SegmentConvertor())

BECAUSE = "/users/{user:segment}/because/{item:segment}"
RATING = "/users/{user:segment}/ratings/{item:segment}"
RATINGS = "/users/{user:segment}/ratings"
EXPORT = "/users/{user:segment}/export"
USER = "/users/{user:segment}"
SIMILAR = "/items/{item:segment}/similar"
TOP = "/users/{user:id}/top"
ITEM = "/items/{item:id}"
