"""Recognises URLs in options, and hides their secrets in messages. It opens none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

MASK = "***"


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a path."""
    return "://" in place


def without_password(url: str) -> str:
    """The URL without its password, to be shown."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", "@", 1) if password else url


def has_ambiguous_password(url: str) -> bool:
    """Whether a database URL has more than one @, so that the end of a password would be read as a host."""
    rest = url.partition("://")[2]
    authority = rest.partition("/")[0]  # a password in it may hold a question mark
    return bool(authority) and max(rest.partition("?")[0].count("@"), authority.count("@")) > 1


def masked(text: str, secrets: Iterable[object]) -> str:
    """The text with `***` in place of each secret; None and empty secrets are ignored."""
    for secret in filter(None, secrets):
        text = text.replace(str(secret), MASK)
    return text


def without_credentials(address: Any) -> str:
    """An SQLAlchemy URL without user, password and parameters, to be shown."""
    parts = {"host": address.host, "port": address.port, "database": address.database}
    shown: str = type(address).create(address.get_backend_name(), **parts).render_as_string()
    return shown
