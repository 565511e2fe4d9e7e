"""Launches the service: checks that it can start, then hands over to uvicorn.

The settings are in RATECAST_… variables, which workers read. The checkpoint is verified and loaded here, once, while
the application is imported. A single worker is this process; several are forked from it. Exit code 2: a setting,
checkpoint or address cannot be used; 3: a worker could not start.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NoReturn

import torch
import uvicorn
from pydantic import ValidationError
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string

from app.engine import loading
from app.memory import collect_rarely
from app.observability import logs, shared_files
from app.ratings import revisions, schema
from app.ratings.errors import StoreUnavailableError
from app.ratings.revisions import Revisions
from app.server.admission import Admission
from app.server.bounds import ConnectionBounds
from app.server.protocol import BoundedProtocol
from app.server.workers import supervise
from app.settings import PREFIX, ConfigurationError, Settings, explain
from models.checkpoint import reader
from models.checkpoint.manifest import Manifest
from models.devices import choose_placement
from models.did_you_mean import closest
from models.errors import RatecastError
from models.registry.directory import current_version, version_path

APP = "app.main:asgi"
MAX_LINGER = 0.5
HINTS = {
    errno.EADDRINUSE: "; choose another one with --port, or a free one with --port 0",
    errno.EACCES: "; choose a port from 1024 on with --port",
}
OTHER_FILES = 128  # than connections: of the database, models, metrics, and of connections that are being refused
GRACE_SECONDS = 5  # beyond the longest time of a request, for answers under way when the service stops
WORKER_SECONDS = 30  # for a worker to start, which takes one, and for one to say that it is alive


def run() -> None:
    """Run the service until a signal stops it."""
    settings = _usable_settings()
    with ThreadPoolExecutor(1, "loader", torch.set_num_threads, (1,)) as loader:  # torch's threads would end at a fork
        loaded = loader.submit(_load, settings, to_fork=settings.workers > 1)
        import_from_string(APP)  # meanwhile: hashes and products leave the interpreter to it
    loaded.result()
    # uvicorn finishes its requests, then raises the signal again for this handler
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if not (_serve(settings) if settings.workers == 1 else _supervise(settings)):
        sys.exit(STARTUP_FAILURE)


def check() -> dict[str, Any]:
    """Check that the service can start, and return what it would run with."""
    settings = _usable_settings()
    manifest, sync = _load(settings, to_fork=False), settings.checkpoint_sync()
    return {
        "checkpoints": settings.checkpoints if sync is None else sync.source,
        "version": manifest.version,
        "users": manifest.model.users,
        "items": manifest.model.items,
        "device": str(choose_placement(settings.device)),
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "threads": settings.threads_per_worker(),
        "keeps_ratings": settings.store_url() is not None,
        "api_keys": len(settings.accepted_keys()),
        "admin_keys": len(settings.accepted_admin_keys()),
    }


def _usable_settings() -> Settings:
    """The settings, with a store, an address and a copy of remote versions that workers can use. Or it refuses."""
    _warn_of_misspelt_variables()
    with _refusing():
        settings = Settings()
        settings.check_exposure()
        settings.accepted_admin_keys()
        choose_placement(settings.device)
        if (url := settings.store_url()) is not None:
            with suppress(StoreUnavailableError):  # it may come back; the workers log it
                schema.prepare(schema.address(url))
        _check_address(settings)
        _allow_open_files()
        if (sync := settings.checkpoint_sync()) is not None:
            sync.start()
    return settings


def _load(settings: Settings, *, to_fork: bool) -> Manifest:
    """Load the version to serve, and that of a fixed split; its manifest. Or it refuses.

    Before a fork they are only verified: MKL, which solves and multiplies matrices, does not survive a fork once
    it was used (a worker never returned from its allocator), and neither does CUDA.
    """
    with _refusing():
        directory, placement = settings.directory(), choose_placement(settings.device)

        def load(version: str) -> Manifest:
            if to_fork:
                return reader.read(version_path(directory, version)).manifest
            return loading.load_ahead(directory, version, placement)

        manifest = load(settings.pinned_version or current_version(directory))
        if (split := settings.fixed_split()) is not None:
            if (sync := settings.checkpoint_sync()) is not None:
                sync.provide(split.version)
            load(split.version)
    return manifest


@contextmanager
def _refusing() -> Iterator[None]:
    """End the program with one line for what the settings name and cannot be used."""
    try:
        yield
    except ValidationError as error:
        _refuse(explain(error))
    except (RatecastError, ConfigurationError, OSError) as error:
        _refuse(str(error))


def _allow_open_files() -> None:
    """Let this process and its workers open as many files as they may: each connection is one.

    Raises ConfigurationError where these are too few.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if 0 <= most < 2 * OTHER_FILES:
        raise ConfigurationError(f"a process may open {most} files, and needs {2 * OTHER_FILES}: see `ulimit -n`")


def _most_connections(settings: Settings) -> int:
    """How many connections a worker may have, so that files can be opened however many clients there are."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return settings.max_connections
    return min(settings.max_connections, most - max(OTHER_FILES, most // 4))


def _serve(settings: Settings) -> bool:
    """Serve in this process, the only worker. Returns whether it could start."""
    if (sync := settings.checkpoint_sync()) is not None:
        Thread(target=sync.follow, name="checkpoint-sync", daemon=True).start()
    signal.signal(
        signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM)
    )  # no parent would replace a single worker
    server = uvicorn.Server(_config(settings, APP))
    with suppress(KeyboardInterrupt):
        server.run()
    return server.started


def _supervise(settings: Settings) -> bool:
    """Run workers, and replace those that die. Returns whether all of them could start.

    They share a folder: the files in which their metrics add up, the name of the version that they serve, and whose
    ratings changed.
    """
    sync = settings.checkpoint_sync()
    with _shared_folder() as folder:
        config = _config(settings, partial(worker_app, Path(folder)))
        with config.bind_socket() as listener:
            collect_rarely()  # so that collections in workers copy no page of what is there
            return supervise(config, listener, None if sync is None else sync.follow)


def _shared_folder() -> TemporaryDirectory[str]:
    """A folder with room for what the workers share. Ends the program if there is none."""
    try:
        folder = TemporaryDirectory(prefix="ratecast-")
        Revisions(Path(folder.name, revisions.FILE))
    except OSError as error:
        _refuse(f"cannot use the folder of temporary files ({error.strerror or error}); TMPDIR names another")
    return folder


def worker_app(shared: Path) -> ASGIApp:
    """The application of a worker process. `shared` is the folder in which workers keep what they share."""
    shared_files.share(shared)
    app: ASGIApp = import_from_string(APP)(shared=shared)
    return app


def _config(settings: Settings, app: str | Callable[[], ASGIApp]) -> uvicorn.Config:
    linger = min(settings.shutdown_pause, MAX_LINGER)
    bounds = ConnectionBounds(_most_connections(settings), settings.max_seconds, settings.idle_seconds, linger)
    return uvicorn.Config(
        app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=partial(BoundedProtocol, bounds=bounds, admission=Admission(settings.max_concurrent)),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        server_header=False,
        access_log=False,
        proxy_headers=False,
        log_level=settings.log_level,
        log_config=logs.configuration(settings.log_level, settings.log_format),
        timeout_graceful_shutdown=ceil(settings.max_seconds) + GRACE_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
    )


def _check_address(settings: Settings) -> None:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "; choose an address of this machine with --host, such as 127.0.0.1")
        raise OSError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}{hint}") from error


def _warn_of_misspelt_variables() -> None:
    """A variable that is not similar to a setting, such as RATECAST_CACHE, is left alone."""
    known = Settings.model_fields
    for name in sorted(name for name in os.environ if name.startswith(PREFIX)):
        key = name.removeprefix(PREFIX).lower()
        if key not in known and (meant := closest(key, known)):
            sys.stderr.write(f"ratecast: {name} is not a setting: did you mean {PREFIX}{meant.upper()}?\n")


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"ratecast: {reason}\n")
    sys.exit(2)
