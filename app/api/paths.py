"""Paths with an id in them. An id may hold any character, slashes and line ends too."""

from starlette.convertors import Convertor, register_url_convertor


class IdConvertor(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdConvertor())

BECAUSE = "/users/{user:id}/because/{item:id}"
RATING = "/users/{user:id}/ratings/{item:id}"
RATINGS = "/users/{user:id}/ratings"
EXPORT = "/users/{user:id}/export"
USER = "/users/{user:id}"
SIMILAR = "/items/{item:id}/similar"
TOP = "/users/{user:id}/top"
ITEM = "/items/{item:id}"
