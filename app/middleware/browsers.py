"""Headers for browsers: which other sites may send requests, and what a page may load. By default none and nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _headers(cache: str, policy: str) -> Headers:
    return (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", cache.encode()),
        (b"content-security-policy", policy.encode()),
    )


DATA = _headers("no-store", "default-src 'none'; frame-ancestors 'none'")
_SWAGGER_UI = (  # puts styles into its elements, and has pictures in its style
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; " + NOTHING_ELSE
)
DOCUMENTATION = _headers("no-store", _SWAGGER_UI)
DOCUMENTATION_FILE = _headers("no-cache", _SWAGGER_UI)
CONSOLE = _headers(  # browsers cache it, and revalidate it each time
    "no-cache",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " + NOTHING_ELSE,
)
REPORT = _headers("no-store", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; " + NOTHING_ELSE)


def allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app for pages of these origins: it answers preflights, and lets the pages read refusals too."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Traceparent", "Tracestate", "X-Request-Id"),
        expose_headers=("X-Request-Id", "Retry-After"),
    )
