"""URLs in messages and options: what is one, and how it is shown without its secrets. It opens none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

MASK = "***"


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a path."""
    return "://" in place


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", "@", 1) if password else url


def has_ambiguous_password(url: str) -> bool:
    """Whether a database URL has more than one @, so that the end of a password would be taken for a host."""
    rest = url.partition("://")[2]
    authority = rest.partition("/")[0]  # a password in it may hold a question mark
    return bool(authority) and max(rest.partition("?")[0].count("@"), authority.count("@")) > 1


def masked(text: str, secrets: Iterable[object]) -> str:
    """The text with `***` wherever it repeats one of the secrets; those that are None or empty are none."""
    for secret in filter(None, secrets):
        text = text.replace(str(secret), MASK)
    return text


def without_credentials(address: Any) -> str:
    """A URL of SQLAlchemy's as it may be shown: without the user, the password, and parameters that may hold one."""
    parts = {"host": address.host, "port": address.port, "database": address.database}
    shown: str = type(address).create(address.get_backend_name(), **parts).render_as_string()
    return shown
