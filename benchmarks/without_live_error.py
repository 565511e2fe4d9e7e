"""The service, which compares no new rating with a prediction; `benchmarks.live_error_cost` lets none be noted either.

It has one worker: others would be started as usual.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from app.__main__ import main
from app.engine.live_error import LiveErrors


async def idle(_: LiveErrors) -> NoReturn:
    while True:
        await asyncio.sleep(3600)


if __name__ == "__main__":
    LiveErrors.follow = idle  # type: ignore[method-assign]
    main()
