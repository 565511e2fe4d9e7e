"""What a worker process makes first. `app/server/launcher.py` runs in its parent, which needs no application itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI

from app.server.protocol import import_from_string
from models.checkpoint import verification_cache


def create_app(factory: str, stamps: Iterable[verification_cache.Stamp], shared: Path) -> FastAPI:
    """The application that a factory (`MODULE:FUNCTION`) makes. It trusts the files that the parent has verified.

    `shared` is the folder in which workers keep what they share.
    """
    verification_cache.verified.update(stamps)
    app: FastAPI = import_from_string(factory)(shared=shared)
    return app
