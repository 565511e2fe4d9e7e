"""Recognises URLs in options, and hides their secrets in messages. It opens none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

MASK = "***"
ENCODE = "in a password, @ : / ? # are percent-encoded: %40 %3A %2F %3F %23"


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a path."""
    return "://" in place


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without user, password and query, wherever a character of a password may end one.

    What is no URL is shown as it is.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    place, *further = re.split("[?#]", rest, maxsplit=1)
    if "@" in "".join(further):
        return f"{scheme}://{MASK}"
    credentials, at, shown = place.rpartition("@")
    if at and (":" in credentials or "/" not in credentials):
        return f"{scheme}://{MASK}@{shown}"
    return f"{scheme}://{place}"


def explained(error: BaseException, url: str) -> str:
    """One line of what is wrong with a URL, without its secrets: the kind of the error if these cannot be told."""
    secrets = _secrets(url)
    if secrets is None:
        return f"{type(error).__name__}; {ENCODE}"
    reason = " ".join(str(error).split()).replace(url, without_secrets(url))
    return masked(reason, secrets) or type(error).__name__


def _secrets(url: str) -> list[str] | None:
    """User, password and query of a URL, as they stand and decoded; None for a URL that can be read in two ways."""
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if rest.count("@") > 1 or ("@" not in authority and "@" in rest and ":" in authority):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    found = {parts.username, parts.password, parts.query, parts.fragment} - {None, ""}
    return sorted({text for each in found for text in (str(each), unquote(str(each)))}, key=len, reverse=True)


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
