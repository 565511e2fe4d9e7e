"""A Chromium to drive, whichever this machine has, and pages of it that tell what went wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Playwright, Request

KEY, ADMIN = "client-key-0123456789", "admin-key-0123456789"  # of services with keys
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


def executable(playwright: Playwright) -> str:
    """Path of the system's Chromium, else of Playwright's own. Raises RuntimeError where there is neither."""
    found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
    if not Path(found).is_file():
        raise RuntimeError("no Chromium: `make browser` installs one")
    return found


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=executable(playwright), args=[*FLAGS])


@dataclass(frozen=True, slots=True)
class Watched:
    """A page, what it complained of, and what it asked for.

    Attributes:
        page: the page.
        complaints: errors and warnings of its console, and exceptions of its scripts.
        requests: method and path of each request to the service.
        elsewhere: addresses of requests to anybody else.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


@contextmanager
def watching(browser: Browser, origin: str, **options: Any) -> Iterator[Watched]:
    """A page of a context of its own; `options` are those of the context."""
    context = browser.new_context(base_url=origin, **options)
    watched = Watched(context.new_page())

    def note(request: Request) -> None:
        if request.url.startswith((f"{origin}/", "blob:", "data:")):
            watched.requests.append((request.method, urlsplit(request.url).path))
        else:
            watched.elsewhere.append(request.url)

    context.on("request", note)
    watched.page.on(
        "console", lambda said: watched.complaints.append(said.text) if said.type in ("error", "warning") else None
    )
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    try:
        yield watched
    finally:
        context.close()
