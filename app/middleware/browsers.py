"""What browsers are told: which pages of other sites may ask, and what an answer may do. By default nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

CDN = "https://cdn.jsdelivr.net"  # of the script and the style of FastAPI's page; a script in the page starts them
NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _headers(cache: str, policy: str) -> Headers:
    return (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", cache.encode()),
        (b"content-security-policy", policy.encode()),
    )


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


def allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app for browsers on pages of these origins. It answers preflights, and marks refusals as readable too."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "X-Request-Id"),
        expose_headers=("X-Request-Id", "Retry-After"),
    )
