"""Every view, in a browser, on a real service with real models."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from models.registry.directory import current_version
from tests.app.console.conftest import VIEWS, version_of
from tests.support.browser import Watched, watching

pytestmark = pytest.mark.timeout(300)  # whichever test is first waits for two fits
KEY, ADMIN = "client-key-0123456789", "admin-key-0123456789"
LOOKS = [
    {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    for width, scheme in zip((360, 390, 768, 1280), ("light", "dark") * 2, strict=True)
]
ADDRESSES = {"users": "users/405", "items": "items/50"}  # of a user and an item of MovieLens-100K
HEADINGS = {
    "items": ("All items", "Ratings", "Who would like it", "Similar items"),
    "quality": ("Live error by version", "Ratings over time", "Drift of the training ratings"),
    "settings": ("Last fit", "Settings of the service"),
}
SCREENSHOTS = os.environ.get("RATECAST_SCREENSHOTS")


def see(page: Page, view: str) -> None:
    """Open a view and wait until all of it is there."""
    page.goto(f"/#{ADDRESSES.get(view, view)}")
    for name in HEADINGS.get(view, ()):
        page.get_by_role("heading", name=name, exact=True).wait_for()
    if view in ("model", "live"):
        page.locator(".plot canvas").first.wait_for()
    if view == "model":
        page.get_by_role("button", name="Roll back").wait_for()
    if view == "users":
        page.get_by_role("button", name="Why").nth(1).click()
        page.locator(".reasons").wait_for()
        page.get_by_role("heading", name="Ratings of").wait_for()
    if view == "items":
        page.get_by_role("region", name="All items").wait_for()
        page.get_by_role("table", name="Ratings by level").wait_for()
    if view == "compare":
        page.get_by_text("RMSE of the second").wait_for()
        page.get_by_label("Lists of the user").fill("405")
        page.keyboard.press("Enter")
        page.get_by_role("list", name="List 1").wait_for()
    if view == "try":
        page.locator(".to-rate li").nth(1).get_by_role("radio", name="4").check()
        page.get_by_role("heading", name="For you").wait_for()
    page.get_by_text("Requests of this view").click()


@pytest.mark.parametrize(
    "watched", LOOKS, indirect=True, ids=lambda look: f"{look['viewport']['width']}-{look['color_scheme']}"
)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_accessible_and_no_wider_than_the_screen(
    watched: Watched, view: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    see(watched.page, view)
    results = Axe().run(watched.page)
    assert results.response["violations"] == [], results.generate_report()
    assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shot = Path(SCREENSHOTS or tmp_path) / f"{view}-{request.node.callspec.id.replace(view, '').strip('-')}.png"
    watched.page.evaluate("scrollTo(0, 0)")
    assert len(watched.page.screenshot(path=shot, full_page=True)) > 10_000


@pytest.mark.parametrize("opened", ["Keys", "Roll back one version"])
@pytest.mark.parametrize("watched", LOOKS[::3], indirect=True, ids=["light", "dark"])
def test_a_dialog_is_accessible(page: Page, opened: str) -> None:
    see(page, "model")
    page.get_by_role("button", name=opened).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).not_to_be_attached()


def test_the_model_is_what_the_service_says(page: Page, service: httpx.Client) -> None:
    current = service.get("/models/current").json()
    see(page, "model")
    text = page.locator("main").inner_text()
    metrics = current["metrics"]
    for shown in (
        current["version"],
        f"{metrics['rmse']:.4f}",
        f"{metrics['bias_rmse']:.4f}",
        f"{100 * metrics['coverage90']:.1f} %",
        "passed",
    ):
        assert shown in text
    page.get_by_text("Show as a table").click()
    passes = service.get(f"/models/{current['version']}/history").json()["passes"]
    measured = [entry for entry in passes if entry["test_rmse"] is not None]
    rows = page.get_by_role("region", name="Learning curve as a table").get_by_role("row")
    expect(rows).to_have_count(len(measured) + 1)
    assert f"{measured[-1]['test_rmse']:.4f}" in rows.last.inner_text()


def test_the_report_opens_in_a_page_of_its_own_with_its_style_and_without_scripts(page: Page) -> None:
    see(page, "model")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Training report").click()
    report = opened.value
    expect(report.get_by_role("heading", name="Fitted")).to_have_css("color", "rgb(1, 2, 3)")


def test_a_user_is_found_by_keyboard_and_their_list_follows_every_option(page: Page, service: httpx.Client) -> None:
    page.goto("/#users")
    field = page.get_by_role("combobox", name="Find a user")
    field.fill("40")
    found = [user["user"] for user in service.get("/users", params={"query": "40", "n": 8}).json()["users"]]
    options = page.get_by_role("listbox").get_by_role("option")
    expect(options).to_have_count(len(found))
    field.press("ArrowDown")
    field.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    field.press("Enter")
    expect(page.get_by_role("heading", name=f"List for {found[1]}")).to_be_visible()
    rated = service.get(f"/users/{found[1]}/ratings").json()["ratings"]
    expect(page.get_by_text(f"{len(rated)} ratings, average")).to_be_visible()
    query: dict[str, object] = {"n": 20}
    for name, order in (("Relevance", "relevance"), ("Lower bound", "lower_bound"), ("Rating", "rating")):
        page.get_by_role("radio", name=name, exact=True).check()
        expect_list(page, service, found[1], query | {"rank_by": order})
    page.get_by_label("Genre").select_option("Drama")
    page.get_by_label("From year").fill("1990")
    page.get_by_label("To year").fill("1993")
    query |= {"rank_by": "rating", "genre": "Drama", "year_min": 1990, "year_max": 1993}
    expect_list(page, service, found[1], query)


def expect_list(page: Page, service: httpx.Client, user: str, query: dict[str, object]) -> None:
    """The page lists what the service does, with a bar for each interval."""
    items = service.get(f"/users/{user}/top", params=query | {"intervals": True}).json()["items"]
    rows = page.get_by_role("list", name=f"List for {user}").locator("li")
    expect(rows.locator(".title")).to_have_text([re.compile(re.escape(item["title"])) for item in items])
    said = rows.first.get_by_role("img").get_attribute("aria-label")
    interval = f"from {items[0]['low']:.1f} to {items[0]['high']:.1f}"
    assert said == f"{items[0]['rating']:.1f} of 5, 90 % interval of the rating {interval}"
    expect(rows.locator(".band")).to_have_count(len(items))


def test_because_shows_the_parts_of_the_prediction(page: Page, service: httpx.Client) -> None:
    see(page, "users")
    item = service.get("/users/405/top").json()["items"][1]["item"]
    because = service.get(f"/users/405/because/{item}", params={"n": 5, "rank_by": "relevance"}).json()
    shown = page.locator(".reasons").inner_text()
    for reason in because["reasons"]:
        assert reason["title"] in shown
        assert f"{abs(reason['contribution']):.2f}" in shown


def test_an_unknown_user_is_shown_what_is_popular(page: Page) -> None:
    page.goto("/#users")
    field = page.get_by_role("combobox", name="Find a user")
    field.fill("nobody/../at all?#")
    expect(page.get_by_text("No results.")).to_be_visible()
    field.press("Enter")
    expect(page.get_by_text("The user is unknown")).to_be_visible()
    expect(page.get_by_role("button", name="Why")).to_have_count(0)


def test_the_list_changes_as_one_rates_and_nothing_is_stored(watched: Watched) -> None:
    page = watched.page
    page.goto("/#try")
    page.get_by_role("heading", name="Popular items").wait_for()
    field = page.get_by_role("combobox", name="Find an item")
    field.fill("alien")
    expect(page.get_by_role("listbox").get_by_role("option").first).to_contain_text("Alien")
    field.press("Enter")
    titles = page.get_by_role("list", name="Your list").locator(".title")
    before = titles.all_inner_texts()
    first = page.get_by_role("group", name="Alien")
    first.get_by_role("radio", name="5").check()
    expect(page.get_by_text("Based on 1 of your ratings.")).to_be_visible()
    after_one = titles.all_inner_texts()
    assert after_one != before
    assert not any(title.startswith("Alien 1979") for title in after_one)
    page.keyboard.press("ArrowLeft")
    expect(first.get_by_role("radio", name="4")).to_be_checked()
    page.get_by_role("group", name="Star Wars").get_by_role("radio", name="1", exact=True).check()
    expect(page.get_by_text("Based on 2 of your ratings.")).to_be_visible()
    assert titles.all_inner_texts() != after_one
    page.get_by_role("button", name="Clear all ratings").click()
    page.get_by_role("heading", name="Popular items").wait_for()
    expect(titles).to_have_text([re.compile(re.escape(title.split("\n")[0])) for title in before])
    assert {method for method, _ in watched.requests} == {"GET", "POST"}
    assert {path for method, path in watched.requests if method == "POST"} == {"/recommend"}


def test_live_shows_what_the_service_is_doing(page: Page, service: httpx.Client) -> None:
    page.goto("/#live")
    rows = page.get_by_role("region", name="Requests by route").get_by_role("row")
    fallbacks = page.locator(".tile").filter(has_text="Fallbacks")
    while "100.0 %" not in fallbacks.inner_text():
        service.post("/predict", json={"user": "nobody", "item": "nothing"})
    expect(rows.filter(has_text="/predict")).to_be_visible()
    expect(page.locator(".tile").filter(has_text="Median latency")).to_contain_text(re.compile("[µm]s"))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


METRICS = """
import("/console/metrics.js").then(({ parse, between, quantile }) => {
  const text = (at) => `
# HELP ratecast_requests_total Answers by status.
ratecast_requests_total{route="/predict",method="POST",status="200"} ${10 * at}.0
ratecast_requests_total{route="/a \\\\"b\\\\" {c}",method="GET",status="404"} ${2 * at}
ratecast_requests_total{route="/metrics",method="GET",status="200"} ${7 * at}
ratecast_request_seconds_bucket{le="0.001",route="/predict"} ${5 * at}
ratecast_request_seconds_bucket{le="0.01",route="/predict"} ${9 * at}
ratecast_request_seconds_bucket{le="+Inf",route="/predict"} ${10 * at}
ratecast_predictions_total{source="model"} ${6 * at}
ratecast_predictions_total{source="item_bias"} ${2 * at}
ratecast_lists_total{source="fold_in"} ${at}
ratecast_lists_total{source="popular"} ${at}
ratecast_waiting_rows{kind="lists"} 3
ratecast_requests_under_way 2`;
  const [before, after] = [parse(text(1)), parse(text(3))];
  const found = between(before, after, 4);
  return [found, quantile(before, before, "ratecast_request_seconds", 0.5), [...parse("nonsense").keys()]];
})
"""


def test_two_readings_of_the_metrics_make_rates_quantiles_and_shares(page: Page) -> None:
    page.goto("/")
    found, nothing, none = page.evaluate(METRICS)
    assert found == {
        "rate": 6.0,
        "errors": 1.0,
        "p50": 0.001,
        "p95": 0.01,
        "p99": 0.01,
        "waiting": 3,
        "underWay": 1,
        "fallbacks": pytest.approx(0.3),
    }
    assert (nothing, none) == (None, [])


@pytest.mark.parametrize(("view", "name"), [("model", "current model"), ("users", "list"), ("try", "recommend")])
def test_a_request_behind_a_view_can_be_typed_as_it_is_shown(
    page: Page, service: httpx.Client, view: str, name: str
) -> None:
    see(page, view)
    panel = page.locator(".requests")
    panel.get_by_label("Request", exact=True).select_option(name)
    answers = []
    for form, ask in (("curl", by_curl), ("Python", by_python), ("HTTP", by_socket)):
        panel.get_by_role("radio", name=form).check()
        answers.append(ask(panel.get_by_role("region", name=f"The request as {form}").inner_text()))
    for answer in answers:
        answer.pop("age_seconds", None)
    assert answers[0] == answers[1] == answers[2]
    assert "model_version" in answers[0] or answers[0]["version"] == service.get("/models/current").json()["version"]


def by_curl(command: str) -> dict[str, object]:
    """What curl would be told, told to httpx."""
    name, silent, *words = shlex.split(command.replace("\\\n", ""))
    assert (name, silent) == ("curl", "-s")
    method, url, headers, body = "GET", "", {}, None
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            header, value = words.pop(0).split(": ")
            headers[header] = value
        elif word == "-d":
            body = words.pop(0)
        else:
            url = word
    return httpx.request(method, url, headers=headers, content=body).raise_for_status().json()


def by_python(program: str) -> dict[str, object]:
    program = program.replace("print(", "import json\nprint(json.dumps(", 1) + ")"
    return json.loads(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    )


def by_socket(message: str) -> dict[str, object]:
    head, _, body = message.partition("\n\n")
    (host,) = re.findall(r"Host: (\S+)", head)
    with socket.create_connection(host.split(":")) as connection:
        head = head.strip().replace("\n", "\r\n")
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


FOCUSED = """() => {
  const element = document.activeElement;
  const shown = element.type === "radio" ? element.nextElementSibling : element;
  const style = getComputedStyle(shown);
  const box = shown.getBoundingClientRect();
  return {
    name: element.value || element.placeholder || element.selectedOptions?.[0].text || element.innerText,
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0,
  };
}"""


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(page: Page) -> None:
    page.goto("/#try")
    page.get_by_role("heading", name="Popular items").wait_for()
    page.locator(".to-rate li").nth(7).wait_for()
    walked: list[dict[str, str]] = []
    while len(walked) < 40 and not (walked and walked[-1]["name"] == "Requests of this view"):
        page.keyboard.press("Tab")
        walked.append(page.evaluate(FOCUSED))
    assert [stop for stop in walked if not (stop["outlined"] and stop["inside"])] == []
    names = [stop["name"].strip() for stop in walked]
    assert names[:12] == [
        "Skip to the content",
        "Ratecast",
        "Model",
        "Users",
        "Items",
        "Try it",
        "Quality",
        "Compare",
        "Live",
        "Settings",
        "API",
        "Keys",
    ]
    ratings = ["1"] * 8
    assert names[12:] == ["words of its title", *ratings, "relevance", "any", "any", "any", "Requests of this view"]


def test_going_to_another_view_says_so_and_puts_the_focus_on_its_heading(page: Page) -> None:
    see(page, "model")
    page.get_by_role("link", name="Users").press("Enter")
    expect(page.get_by_role("heading", name="Users")).to_be_focused()
    expect(page).to_have_title("Users · Ratecast")
    expect(page.get_by_role("link", name="Users")).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page.get_by_role("heading", name="Model")).to_be_focused()


def test_keys_are_asked_for_where_they_are_wanted_and_stay_in_the_tab(
    browser: Browser,
    start: Callable[..., AbstractContextManager[tuple[httpx.Client, object]]],
    movielens: Path,
) -> None:
    before, current = version_of(movielens, "als"), version_of(movielens, "bayes")
    with (
        start(movielens, api_keys=KEY, admin_keys=ADMIN) as (client, _),
        watching(browser, str(client.base_url).rstrip("/")) as watched,
    ):
        page = watched.page
        page.goto("/")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Save").click()
        expect(page.get_by_text("running on")).to_contain_text(current)
        page.get_by_role("button", name="Roll back").click()
        dialog.get_by_label("Admin key").fill("not-the-admin-key-012")
        expect(dialog).to_contain_text("It predicts worse than the version being served")
        dialog.get_by_role("button", name="Roll back").click()
        expect(dialog.get_by_role("alert")).to_contain_text(re.compile("key", re.IGNORECASE))
        dialog.get_by_label("Admin key").fill(ADMIN)
        dialog.get_by_role("button", name="Roll back").click()
        expect(page.get_by_text(f"The service now serves {before}.")).to_be_visible()
        assert current_version(movielens) == before
        expect(page.get_by_text("this model has no intervals")).to_be_visible()
        page.get_by_text("Requests of this view").click()
        assert "$RATECAST_KEY" in page.locator(".requests").inner_text()
        with page.expect_download() as saved:
            page.get_by_role("link", name="Training report").click()
        assert b"Fitted" in saved.value.path().read_bytes()
        page.get_by_role("button", name=f"Activate {current}").click()
        page.get_by_role("button", name="Activate", exact=True).click()
        expect(page.get_by_text(f"The service now serves {current}.")).to_be_visible()
        assert current_version(movielens) == current
        assert KEY not in page.content()
        assert ADMIN not in page.content()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert watched.elsewhere == []
        assert all("401" in complaint for complaint in watched.complaints)


def test_a_model_without_intervals_or_a_head_offers_what_it_has(browser: Browser, start, movielens: Path) -> None:
    with (
        start(movielens, pinned_version=version_of(movielens, "als")) as (client, _),
        watching(browser, str(client.base_url).rstrip("/")) as watched,
    ):
        watched.page.goto("/#users/405")
        expect(watched.page.get_by_role("list", name="List for 405").locator("li").first).to_be_visible()
        orders = watched.page.get_by_role("group", name="Order by").get_by_role("radio")
        shape = client.get("/models/current").json()["shape"]
        expect(orders).to_have_count(1 + (shape["relevance_factors"] is not None) + shape["uncertainty"])
        expect(watched.page.locator(".band")).to_have_count(0)
        assert watched.complaints == []


def test_a_service_that_is_gone_is_said_so(browser: Browser, client: httpx.Client) -> None:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        watched.page.goto("/#try")
        watched.page.locator(".to-rate li").first.wait_for()
        watched.page.context.set_offline(True)
        watched.page.locator(".to-rate li").nth(2).get_by_role("radio", name="4").check()
        expect(watched.page.get_by_role("alert")).to_contain_text("The service cannot be reached")


def test_strange_ids_are_users_too(browser: Browser, client: httpx.Client, strange_ids: list[str]) -> None:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        page = watched.page
        page.goto("/#users")
        for user in strange_ids:
            if user == "..":  # which no browser can ask for
                continue
            page.evaluate("user => { location.hash = `users/${encodeURIComponent(user)}` }", user)
            expect(page.get_by_text("From the model.")).to_be_visible()
            shown = page.locator("ol.list .title")
            listed = client.get(f"/users/{quote(user, safe='')}/top", params={"n": 20}).json()["items"]
            expect(shown).to_have_text(
                [re.compile(re.escape((item["title"] or item["item"]).strip())) for item in listed]
            )
        assert watched.complaints == []
