"""Paths with an id in them. An id may hold any character, slashes and line ends too.

Where a path has two ids, or erases somebody, an id is one segment of it, and its own slashes are percent-encoded.
Servers decode them before anybody routes, so they are looked up in what the client sent. The other paths with an id
take plain slashes too, and are tried after those.
"""

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope

SLASH = "\U0010ffff"  # stands for a slash of an id while a path is routed; a noncharacter, which no text should hold


class IdConvertor(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value.replace(SLASH, "/")

    def to_string(self, value: str) -> str:
        return value


class SegmentConvertor(IdConvertor):
    regex = r"[^/]+"


def decode_segments(scope: Scope) -> bool:
    """Let routers tell a slash of an id, percent-encoded, from one of the path. Gives whether there is one."""
    raw = scope.get("raw_path") or b""
    if b"%2f" not in raw and b"%2F" not in raw:
        return False
    segments = raw.decode("latin-1").split("/")
    scope["path"] = "/".join(unquote(segment, errors="replace").replace("/", SLASH) for segment in segments)
    return True


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
