"""Every view says so when the service is stopped, is slow, or refuses, and shows nothing that is out of date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.app.console.conftest import VIEWS
from tests.support.browser import watching
from tests.support.service import Start, serving

KEY = "client-key-0123456789"
SLOW_MS = 3_000
SLOW_VIEWS = [pytest.param(view, marks=[] if view == "users" else pytest.mark.slow) for view in VIEWS]


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with watching(browser, origin(client)) as watched:
        yield watched.page


def origin(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def go(page: Page, view: str) -> None:
    """Leave for a view inside the page, as a link does."""
    page.evaluate("hash => { location.hash = hash }", VIEWS[view])


@contextmanager
def slow(page: Page) -> Iterator[None]:
    """Let every request of the page that begins in the block take long."""
    session = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": SLOW_MS, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", limits)
    yield
    session.send("Network.emulateNetworkConditions", limits | {"latency": 0})
    session.detach()


@pytest.mark.slow
def test_every_view_says_that_the_service_is_stopped(browser: Browser, checkpoints: Path) -> None:
    with serving(checkpoints, store="none") as service, watching(browser, service.url) as watched:
        page = watched.page
        page.goto("/#try")
        page.locator(".to-rate li").first.wait_for()
        service.process.terminate()
        service.process.wait(30)
        for view in (*VIEWS, "model"):
            go(page, view)
            expect(page.locator("h1")).to_be_focused()
            expect(page.get_by_role("alert")).to_have_count(1)
            expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")
            expect(page.get_by_role("alert").get_by_role("button", name="Try again")).to_be_in_viewport()


def test_what_failed_is_asked_again_when_the_user_says_so(page: Page) -> None:
    page.goto("/#live")
    page.locator("h1").wait_for()
    page.context.set_offline(True)
    go(page, "users")
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").press("Enter")
    expect(page.get_by_text("Users with the most ratings")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("view", SLOW_VIEWS)
def test_a_view_says_that_it_waits_for_a_slow_service(page: Page, view: str) -> None:
    page.goto("/#live" if view != "live" else "/")
    page.locator("h1").wait_for()
    waiting = page.get_by_role("status").filter(has_text="Waiting for the service")
    with slow(page):
        go(page, view)
        expect(waiting).to_be_visible()
    expect(waiting).to_have_count(0, timeout=20_000)
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.slow
def test_every_view_says_that_the_service_refuses(start: Start, browser: Browser, checkpoints: Path) -> None:
    with (
        start(checkpoints, store="none", rate_limit="0.01") as (client, _),
        watching(browser, origin(client)) as watched,
    ):
        assert [client.get("/models").status_code for _ in range(2)][-1] == 429
        for view, hash_ in VIEWS.items():
            watched.page.goto(f"/#{hash_}")
            expect(watched.page.get_by_role("alert"), view).to_have_count(1)
            expect(watched.page.get_by_role("alert"), view).to_contain_text("Too many requests")


@pytest.mark.slow
def test_a_wrong_key_is_said_to_be_wrong(start: Start, browser: Browser, checkpoints: Path) -> None:
    with (
        start(checkpoints, store="none", api_keys=KEY) as (client, _),
        watching(browser, origin(client)) as watched,
    ):
        page = watched.page
        page.goto("/")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("alert")).to_have_text("The service needs an API key. Type one.")
        dialog.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("did not accept this key")
        page.keyboard.press("Escape")
        refused = page.get_by_role("alert").filter(has_text="The API key is missing or was not accepted")
        expect(refused).to_be_visible()
        # Not by the mouse: if another request with this key is refused just now, the dialog opens over the button.
        page.get_by_role("button", name="Enter a key").first.dispatch_event("click")
        dialog.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_text("running on")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_a_search_that_fails_does_not_say_that_there_is_nothing(page: Page) -> None:
    page.goto("/#users")
    page.get_by_text("Users with the most ratings").wait_for()
    page.context.set_offline(True)
    field = page.get_by_role("combobox", name="Find a user")
    field.fill("1")
    expect(page.get_by_text("The search failed. The service cannot be reached.")).to_be_visible()
    expect(page.get_by_text("No results.")).to_have_count(0)
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("listbox").get_by_role("option").first).to_be_visible()


@pytest.mark.slow
def test_live_shows_no_figures_while_nothing_is_measured(page: Page, client: httpx.Client) -> None:
    page.goto("/#live")
    expect(page.locator(".chart").get_by_text("Measuring…")).to_have_count(4)
    expect(page.locator("canvas")).to_have_count(0)
    tile = page.locator(".tile").filter(has_text="Requests per second")
    expect(tile.locator(".figure")).to_have_text(re.compile(r"\d"), timeout=10_000)
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached", timeout=10_000)
    expect(page.locator(".tile .figure")).to_have_text(["–"] * 4)
    expect(tile).to_contain_text("no answer from the service")


def test_a_late_refusal_of_a_key_that_was_replaced_does_not_ask_for_it_again(
    start: Start, browser: Browser, checkpoints: Path
) -> None:
    held: list[Route] = []

    def hold_what_has_no_key(route: Route) -> None:
        if "authorization" in route.request.headers:
            route.continue_()
        else:
            held.append(route)

    with (
        start(checkpoints, api_keys=KEY) as (client, _),
        watching(browser, origin(client)) as watched,
    ):
        page, dialog = watched.page, watched.page.get_by_role("dialog")
        page.goto("/#model")
        expect(dialog).to_be_visible()
        page.route("**/genres", hold_what_has_no_key)
        with page.expect_request("**/genres"):
            page.evaluate(
                "() => import('/console/api.js').then(({ send }) => {"
                "  window.late = send({ path: ['genres'] }).catch((problem) => problem.status); })"
            )
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Save").click()
        expect(dialog).to_have_count(0)
        held[0].fulfill(status=401, json={"title": "Unauthorized"})
        assert page.evaluate("window.late") == 401
        page.evaluate("() => new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))")
        assert dialog.count() == 0
