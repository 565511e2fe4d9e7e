"""What answers tell browsers: not to guess types, frame, cache or refer, and which scripts a page may run."""

from __future__ import annotations

from typing import TypeAlias

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

NO_GUESSING: Headers = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
CDN = "https://cdn.jsdelivr.net"  # of the script and the style of FastAPI's page; a script in the page starts them
NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _headers(cache: str, policy: str) -> Headers:
    return (*NO_GUESSING, (b"cache-control", cache.encode()), (b"content-security-policy", policy.encode()))


DATA = _headers("no-store", "default-src 'none'; frame-ancestors 'none'")
DOCUMENTATION = _headers(
    "no-store",
    f"default-src 'none'; script-src 'unsafe-inline' {CDN}; style-src 'unsafe-inline' {CDN}; connect-src 'self'; "
    "img-src 'self' data: https://fastapi.tiangolo.com; frame-ancestors 'none'",
)
CONSOLE = _headers(  # browsers keep it, but ask each time whether it is still the same
    "no-cache",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " + NOTHING_ELSE,
)
REPORT = _headers("no-store", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; " + NOTHING_ELSE)
