"""Paths with an id in them. An id may hold any character, slashes and line ends too."""

from starlette.convertors import Convertor, register_url_convertor


class IdConvertor(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdConvertor())

TOP = "/users/{user:id}/top"
ITEM = "/items/{item:id}"
