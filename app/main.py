"""The service, wired: settings → lifespan → routes. Nothing else happens here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from app import errors
from app.api import (
    documentation,
    item_users,
    items,
    lists,
    models,
    openapi,
    operations,
    predict,
    quality,
    ratings,
    split,
)
from app.api import settings as settings_api
from app.api.deps import State
from app.api.limits import Limits
from app.api.openapi import Service
from app.api.plain import PlainRoute, PlainRoutes
from app.console import routes as console
from app.engine import loading
from app.engine.engine import Bounds, Engine
from app.memory import collect_rarely, give_back
from app.middleware.access import ApiKeys, Guard, RouteNeeds
from app.middleware.browsers import allow_origins
from app.middleware.large_bodies import LargeBodies
from app.middleware.rate_limit import RateLimit
from app.middleware.reporting import Reporting
from app.observability.telemetry import Telemetry
from app.ratings import deleted_users, revisions
from app.ratings.deleted_users import DeletedUsers
from app.ratings.revisions import Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from app.server.shutdown import Shutdown
from app.settings import Settings
from models.devices import choose_placement

VERSION = "0.1.0"
RESOURCES = (lists, item_users, items, models, split, quality, settings_api, operations, openapi, documentation)


def asgi(shared: Path | None = None) -> ASGIApp:
    """The application that the server calls: FastAPI's, or without OpenTelemetry only its outermost layer.

    FastAPI takes 4 µs a request to find out that OpenTelemetry is not configured.
    """
    settings = Settings()
    app = create_app(settings, shared)
    return app if settings.opentelemetry else app.build_middleware_stack()


def create_app(settings: Settings | None = None, shared: Path | None = None) -> FastAPI:
    """Build the service from the environment, or from the settings given.

    `shared` is a folder of the workers of one service, with the version that they serve and whose ratings have changed.
    """
    settings = settings or Settings()
    telemetry, shutdown = Telemetry(), Shutdown(settings.shutdown_pause)
    limits = Limits(
        pairs=settings.max_pairs,
        list_length=settings.max_list,
        id_length=settings.max_id_length,
        inline_ratings=settings.max_inline_ratings,
        offset=settings.max_offset,
    )
    traced = settings.opentelemetry
    app = Service(
        title="Ratecast",
        version=VERSION,
        description="Rating prediction as a service.",
        lifespan=lifespan(settings, limits, telemetry, shutdown, shared),
        telemetry={"tracing": traced, "metrics": traced, "logs": traced},
        generate_unique_id_function=lambda route: route.name,
        servers=[{"url": "."}],  # relative to the document, which may be below a prefix
        openapi_url=None,  # `app.api.openapi` has the routes of the document and of its page
        redirect_slashes=False,  # the address would be that of a proxy's inner side
    )
    routes = add_routes(app)
    errors.install(app, routes)
    needs = RouteNeeds(routes)
    keys = ApiKeys(
        settings.accepted_keys(), settings.accepted_admin_keys(), clients_may_rate=settings.api_keys_may_rate
    )
    rate_limit = None if settings.rate_limit is None else RateLimit(settings.rate_limit / settings.workers)
    bodies = LargeBodies(settings.max_body_bytes, settings.max_seconds)
    guard = Guard(keys, rate_limit, settings.max_concurrent, telemetry)

    def layers(inner: ASGIApp) -> ASGIApp:
        plain = PlainRoutes(inner, [route for route in routes if isinstance(route, PlainRoute)], guard, bodies, limits)
        return Reporting(allow_origins(plain, settings.origins()), needs, telemetry, settings.log_sample, shutdown)

    app.layers, app.needs, app.guard = layers, needs, guard
    return app


def add_routes(app: FastAPI) -> list[Route]:
    """Add the routes of every resource and of the console to the app, and return them."""
    found: list[BaseRoute] = []
    for part in (
        predict.predict_route,
        ratings.rating_route,
        ratings.ratings_route,
        ratings.router,
        lists.top_route,  # after the other paths below /users: see `app.api.parameters`
        lists.recommend_route,
        items.items_route,
        *(resource.router for resource in RESOURCES),
        console.router(),
    ):
        if isinstance(part, APIRouter):
            app.include_router(part)
            found += part.routes
        else:
            app.router.routes.append(part)
            found.append(part)
    return [route for route in found if isinstance(route, Route)]


def lifespan(
    settings: Settings, limits: Limits, telemetry: Telemetry, shutdown: Shutdown, shared: Path | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    """Load the model before the first request, and let the last one finish."""

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncGenerator[State]:
        store, effective = ratings_store(settings, telemetry, shared), settings.effective()
        engine = Engine(
            settings.directory(),
            choose_placement(settings.device),
            settings.threads_per_worker(),
            Bounds(
                queued_pairs=settings.max_queued_pairs,
                queued_lists=settings.max_queued_lists,
                seconds=settings.max_seconds,
                recent_lists=settings.recent_lists,
                recent_users=settings.recent_users,
                new_items=settings.new_items,
            ),
            telemetry.listen,
            settings.pinned_version,
            None if shared is None else shared / "served",
            store,
            settings.checkpoint_sync(),
            settings.fixed_split(),
        )
        work = [telemetry.keep_flushing, engine.versions.follow, engine.split.follow]
        try:
            if store is not None:
                await store.start()
                work += [store.follow, engine.items.follow, engine.new_items.follow, engine.live_errors.follow]
            await engine.versions.start()
            await engine.split.start()
            loading.forget()
            collect_rarely()
            await engine.items.start()
            give_back()
            with shutdown.delaying_the_end():
                async with running(*work):
                    yield State(
                        engine=engine, limits=limits, telemetry=telemetry, shutdown=shutdown, settings=effective
                    )
            telemetry.flush()
        finally:
            if store is not None:
                await store.close()
            engine.close()

    return run


def ratings_store(settings: Settings, telemetry: Telemetry, shared: Path | None) -> RatingsStore | None:
    """The ratings store; None if the settings name none."""
    url = settings.store_url()
    if url is None:
        return None
    changes = Revisions(None if shared is None else shared / revisions.FILE)
    return RatingsStore(
        address(url), changes, telemetry.committed, DeletedUsers(settings.directory() / deleted_users.FILE)
    )


@asynccontextmanager
async def running(*work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run endless tasks while the block runs. They have ended when the block is left."""
    tasks = [asyncio.create_task(start()) for start in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
