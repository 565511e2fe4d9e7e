"""What a worker process makes first. `app/server/launcher.py` runs in its parent, which needs no application itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI

from models.checkpoint import verification_cache


def create_app(stamps: Iterable[verification_cache.Stamp], shared: Path) -> FastAPI:
    """The application, which need not verify the files that the worker's parent has verified.

    `shared` is the folder in which workers keep what they share.
    """
    from app.main import create_app  # noqa: PLC0415 - the parent of workers does without the application

    verification_cache.learn(stamps)
    return create_app(shared=shared)
