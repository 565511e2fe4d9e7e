"""Waiting for an answer only as long as somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from app.engine.errors import CancelledRequestError

T = TypeVar("T")

Cancelled: TypeAlias = Callable[[], Awaitable[object]]  # what it gives ends when whoever asked has gone


async def unless_cancelled(work: Coroutine[Any, Any, T], cancelled: Cancelled | None) -> T:
    """The result of some work. Raises CancelledRequestError, with the work cancelled, if `cancelled` ends first."""
    if cancelled is None:
        return await work
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(cancelled())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CancelledRequestError("whoever asked has gone before the answer was there")
    finally:
        task.cancel()
        watch.cancel()
