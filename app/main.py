"""The service, wired: settings → lifespan → routes. Nothing else happens here."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from app import errors
from app.api import health, items, metrics, models, predict, ratings, users
from app.api.deps import State
from app.api.fast_path import FrontDoor
from app.api.limits import BodyLimit, Limits
from app.api.openapi import Service
from app.api.paths import EncodedSlashes
from app.console import routes as console
from app.console.files import read_files
from app.engine.engine import Bounds, Engine
from app.middleware.auth import Keys
from app.middleware.gate import Gate, Rules
from app.middleware.rate_limit import RateLimit
from app.observability.logs import RequestLog
from app.observability.telemetry import Telemetry
from app.observability.tracing import NamedSpans
from app.ratings.revisions import Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from app.server.shutdown import Shutdown
from app.settings import Settings
from models.devices import choose_placement

VERSION = "0.1.0"
RESOURCES = (predict, ratings, users, items, models, health, metrics)  # lists last of those below /users: see `paths`
METHODS = ("GET", "POST", "PUT", "DELETE")  # of pages from elsewhere, where any may ask
HEADERS = ("Authorization", "Content-Type", "X-Request-Id")
SHOWN = ("X-Request-Id", "Retry-After")  # headers of answers that such pages may read


def create_app(settings: Settings | None = None, shared: Path | None = None) -> FastAPI:
    """Build the service from the environment, or from the settings given.

    `shared` is a folder in which the workers of one service keep which version they serve, and whose ratings changed.
    """
    settings = settings or Settings()
    telemetry, draining = Telemetry(), Shutdown(settings.shutdown_pause)
    limits = Limits(settings.max_pairs, settings.max_list, settings.max_id_length, settings.max_inline_ratings)
    app = Service(
        title="Ratecast",
        version=VERSION,
        description="Rating prediction as a service.",
        lifespan=lifespan(settings, limits, telemetry, draining, shared),
        telemetry=opentelemetry(settings.opentelemetry),
        generate_unique_id_function=lambda route: route.name,
        redoc_url=None,  # one page of documentation is enough
        swagger_ui_oauth2_redirect_url=None,
    )
    routers = [*(resource.router for resource in RESOURCES), console.router(read_files())]
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
    errors.install(app, routes)
    app.add_middleware(EncodedSlashes)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    gate = partial(
        Gate,
        rules=rules(settings),
        telemetry=telemetry,
        log=RequestLog(settings.log_sample),
        draining=draining,
        across=across(settings.origins()),
    )
    front_door = partial(FrontDoor, limits=limits, max_body_bytes=settings.max_body_bytes)
    if settings.opentelemetry:  # then FastAPI must see every request
        app.add_middleware(front_door)
        app.add_middleware(gate)
        app.add_middleware(NamedSpans)
    else:
        app.surround(lambda inner: gate(front_door(inner)))
    for router in routers:
        app.include_router(router)
    return app


def across(origins: Sequence[str]) -> Callable[[ASGIApp], ASGIApp] | None:
    """What tells browsers that pages of these origins may ask; nothing where there are none."""
    if not origins:
        return None
    return partial(
        CORSMiddleware, allow_origins=origins, allow_methods=METHODS, allow_headers=HEADERS, expose_headers=SHOWN
    )


def rules(settings: Settings) -> Rules:
    """What the gate refuses."""
    rate = settings.rate_limit
    return Rules(
        keys=Keys(settings.accepted_keys(), settings.accepted_admin_keys()),
        rates=None if rate is None else RateLimit(rate / settings.workers),
        under_way=settings.max_concurrent,
        all_may_rate=settings.api_keys_may_rate,
    )


def lifespan(
    settings: Settings, limits: Limits, telemetry: Telemetry, draining: Shutdown, shared: Path | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """Load the model before the first request, and let the last one finish."""

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncGenerator[State]:
        threads = settings.threads_per_worker()
        bounds = Bounds(
            queued_pairs=settings.max_queued_pairs,
            queued_lists=settings.max_queued_lists,
            seconds=settings.max_seconds,
            recent_lists=settings.recent_lists,
            recent_users=settings.recent_users,
        )
        placement = choose_placement(settings.device)
        store = ratings_store(settings, telemetry, shared)
        engine = Engine(
            settings.directory(),
            placement,
            threads,
            bounds,
            [telemetry.listen],
            settings.pinned_version,
            None if shared is None else shared / "served",
            store,
            settings.mirror(),
        )
        work = [telemetry.keep_flushing(), engine.follow()]
        try:
            if store is not None:
                await store.start()
                work.append(store.follow())
            await engine.load()
            gc.collect()
            gc.freeze()  # what was imported and loaded stays: the collector need not look at it again
            with draining.delaying_the_end(), running(*work):
                yield State(engine=engine, limits=limits, telemetry=telemetry, draining=draining)
            telemetry.flush()
        finally:
            if store is not None:
                await store.close()
            engine.close()

    return run


def ratings_store(settings: Settings, telemetry: Telemetry, shared: Path | None) -> RatingsStore | None:
    """Where ratings are kept, if they are."""
    url = settings.store_url()
    if url is None:
        return None
    changes = Revisions(None if shared is None else shared / "changes")
    return RatingsStore(address(url), changes, telemetry.committed)


@contextmanager
def running(*work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Do something without end beside what is within the block."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    yield
    for task in tasks:
        task.cancel()


def opentelemetry(wanted: bool) -> TelemetryConfig:
    """Where nobody configured OpenTelemetry, FastAPI finds that out anew for every request, which takes 5 µs."""
    return {"tracing": wanted, "metrics": wanted, "logs": wanted}
