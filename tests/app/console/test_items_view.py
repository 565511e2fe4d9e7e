"""The items: browsed, found, edited and hidden by somebody with an admin key, and looked at by everybody else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import ADMIN, Watched, watching


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        yield watched.page
        assert watched.complaints == []


def rows(page: Page) -> Locator:
    return page.get_by_role("region", name="All items").get_by_role("row")


def test_items_are_browsed_page_by_page_and_filtered(page: Page, client: httpx.Client) -> None:
    page.goto("/#items")
    expect(rows(page)).to_have_count(21)
    page.get_by_role("button", name="Next page").press("Enter")
    expect(page.get_by_text("Items 21 to 40")).to_be_visible()
    second = client.get("/items?n=20&offset=20").json()["items"]
    expect(rows(page).nth(1)).to_contain_text(second[0]["title"] or second[0]["item"])
    page.get_by_label("Genre").select_option("Film-Noir")
    page.get_by_label("To year").fill("1955")
    found = client.get("/items?n=20&genre=Film-Noir&year_max=1955").json()["items"]
    assert 0 < len(found) < 20
    expect(rows(page)).to_have_count(len(found) + 1)
    expect(page.get_by_role("button", name="Next page")).to_be_disabled()


def test_an_item_shows_its_ratings_its_users_and_what_is_like_it(page: Page, client: httpx.Client) -> None:
    page.goto("/#items/8")
    ratings = client.get("/items/8/ratings?n=8").json()
    card = page.locator(".card").filter(has=page.get_by_role("heading", name="Ratings", exact=True))
    expect(card).to_contain_text(f"{ratings['ratings']} ratings, average {ratings['mean_rating']:.2f}")
    expect(card.get_by_role("listitem")).to_have_count(len(ratings["latest"]))
    likely = client.get("/items/8/users?n=8").json()["users"]
    card = page.locator(".card").filter(has=page.get_by_role("heading", name="Who would like it"))
    expect(card.get_by_role("link")).to_have_text([one["user"].strip() for one in likely])
    similar = client.get("/items/8/similar?n=8").json()["items"]
    card = page.locator(".card").filter(has=page.get_by_role("heading", name="Similar items"))
    expect(card.get_by_role("link")).to_have_text(
        [re.compile(re.escape((one["title"] or one["item"]).strip())) for one in similar]
    )


def test_an_item_that_nobody_knows_can_be_added_and_is_said_to_be_unknown(
    browser: Browser, client: httpx.Client
) -> None:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        watched.page.goto("/#items")
        field = watched.page.get_by_role("combobox", name="Find an item")
        field.fill("not/an item?")
        field.press("Enter")
        expect(watched.page.get_by_text("No item has this id.")).to_be_visible()
        expect(watched.page.get_by_role("button", name="Add")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize(("address", "opened"), [("items/8", "Edit"), ("users/7", "Delete user")])
@pytest.mark.parametrize("look", [{"width": 360, "height": 800}, {"width": 1280, "height": 800}], ids=["360", "1280"])
def test_a_dialog_of_an_admin_is_accessible_and_can_be_left(
    browser: Browser, client: httpx.Client, address: str, opened: str, look: dict[str, int]
) -> None:
    with watching(browser, str(client.base_url).rstrip("/"), viewport=look) as watched:
        page = watched.page
        page.goto(f"/#{address}")
        page.get_by_role("button", name=opened).press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert Axe().run(page).response["violations"] == []
        assert page.evaluate("document.querySelector('dialog').scrollWidth <= innerWidth")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).not_to_be_attached()
        assert watched.complaints == []


FOCUS = """(({ name, value, innerText, role, type }) =>
  [name || value || innerText, role, type, getComputedStyle(document.activeElement).outlineStyle]
)(document.activeElement)"""


def walk(page: Page, name: str, most: int = 60) -> None:
    """Press Tab until the control of that name, text or role has the focus, which must be seen.

    A radio button is drawn by its label, and the calendar of a field of a time by the browser: both show it themselves.
    """
    for _ in range(most):
        page.keyboard.press("Tab")
        found, role, kind, outline = page.evaluate(FOCUS)
        assert outline != "none" or kind in ("radio", "datetime-local"), found
        if name in (found, role):
            return
    raise AssertionError(f"no {name}")


@pytest.mark.slow
def test_an_item_is_found_edited_and_hidden_by_keyboard_alone(guarded: tuple[Watched, httpx.Client]) -> None:
    watched, client = guarded
    page = watched.page
    before = client.get("/items/8").json()
    page.goto("/#items")
    expect(rows(page)).to_have_count(21)
    walk(page, "combobox")
    page.keyboard.type("8")
    expect(page.get_by_role("listbox").get_by_role("option").first).to_contain_text("Title 8")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Title 8", exact=True)).to_be_focused()
    expect(page.get_by_text("Only an admin key may read the ratings")).to_be_visible()
    walk(page, "Edit")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Title")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Another title")
    walk(page, "genres")
    page.keyboard.press("Control+A")
    page.keyboard.type("Drama, New genre")
    walk(page, "hidden")
    page.keyboard.press("Space")
    walk(page, "admin")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(
        "The API key is missing or was not accepted"
    )
    page.get_by_label("Admin key").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type(ADMIN)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.get_by_text("No list and no search shows this item.")).to_be_visible()
    stored = client.get("/items/8").json()
    assert (stored["title"], stored["genres"], stored["hidden"]) == ("Another title", ["Drama", "New genre"], True)
    assert stored["labels"] == before["labels"]
    page.get_by_role("radio", name="Hidden").check()
    expect(rows(page).filter(has_text="Another title")).to_be_visible()
    expect(rows(page)).to_have_count(2)


@pytest.mark.slow
def test_an_item_of_the_store_alone_is_added_and_said_to_be_new(guarded: tuple[Watched, httpx.Client]) -> None:
    watched, client = guarded
    page = watched.page
    page.goto("/#items/brand%20new")
    page.get_by_role("button", name="Add").click()
    page.get_by_label("Title").fill("A new one")
    page.get_by_label("Available from").fill("2030-01-02T03:04")
    page.get_by_label("Admin key").fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.get_by_text("The model does not know this item.")).to_be_visible()
    expect(page.get_by_role("heading", name="A new one")).to_be_visible()
    stored = client.get("/items/brand%20new").json()
    assert (stored["title"], stored["year"], stored["hidden"]) == ("A new one", None, False)
    begin = page.evaluate("new Date('2030-01-02T03:04') / 1000")
    assert stored["available_from"] == begin
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("Available from")).to_have_value("2030-01-02T03:04")
