"""A service that answers from models of MovieLens-100K, and a browser to look at its console with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from models.registry.directory import activate, versions
from tests.support.browser import ADMIN, KEY, Watched, watching
from tests.support.checkpoints import replace_file
from tests.support.service import Start
from training import job
from training.config import JobConfig
from training.data.fetch import default_cache

REPORT = b"<!doctype html><html lang=en><title>A report</title><style>h1 { color: rgb(1, 2, 3) }</style><h1>Fitted</h1>"
HEAD = ("relevance.factors=32", "relevance.regression_items=0")
QUICK = ("trial=0", "samples=20", "factors=8", "rank=16", *HEAD)  # a second's fit; it is not judged here

VIEWS = {
    "model": "",
    "users": "users/1",
    "items": "items/1",
    "try": "try",
    "quality": "quality",
    "compare": "compare",
    "live": "live",
    "settings": "settings",
}  # the address of each, with what it is of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask the models of MovieLens-100K are slow: they wait for two fits."""
    for item in items:
        if isinstance(item, pytest.Function) and "movielens" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of ml-100k: one that was served before, without intervals, and the current one. Both have a report."""
    directory = tmp_path_factory.mktemp("movielens")
    for preset, settings in (("als", HEAD), ("bayes", QUICK)):
        config = JobConfig(
            data=["ml-100k"],
            split="random:0.1",
            preset=preset,
            overrides=settings,
            device="cpu",
            cache=default_cache(),
            out=directory,
            force=True,
        )
        job.run(config, lambda _: None)
    for version in versions(directory):
        replace_file(directory / version, "report/index.html", REPORT)
    activate(directory, version_of(directory, "bayes"))
    return directory


def version_of(directory: Path, preset: str) -> str:
    (version,) = [name for name in versions(directory) if f"-{preset}-" in name]
    return version


@pytest.fixture(scope="session")
def service(
    start: Callable[..., AbstractContextManager[tuple[httpx.Client, object]]], movielens: Path
) -> Iterator[httpx.Client]:
    """A client of a service on these models; everybody may ask."""
    with start(movielens) as (client, _):
        yield client


@pytest.fixture
def watched(browser: Browser, service: httpx.Client, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page that must complain of nothing and ask nobody else. A test may give options of its context."""
    origin = str(service.base_url).rstrip("/")
    with watching(browser, origin, **getattr(request, "param", {})) as watched:
        yield watched
        assert watched.complaints == []
        assert watched.elsewhere == []


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def guarded(
    start: Start, browser: Browser, checkpoints: Path, tmp_path: Path
) -> Iterator[tuple[Watched, httpx.Client]]:
    """A page, and a client with the admin key, of a service with keys and a store of its own."""
    store = f"sqlite:///{tmp_path}/ratings.sqlite"
    with (
        start(checkpoints, store=store, api_keys=KEY, admin_keys=ADMIN) as (client, _),
        watching(browser, str(client.base_url).rstrip("/")) as watched,
    ):
        client.headers["Authorization"] = f"Bearer {ADMIN}"
        watched.page.add_init_script(f"sessionStorage.setItem('ratecast.key', '{KEY}')")
        yield watched, client
