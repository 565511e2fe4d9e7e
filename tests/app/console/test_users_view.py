"""A user's data: exported, deleted by an admin; and users who joined after the fit."""

from __future__ import annotations

import json

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import ADMIN, KEY, Watched, watching


@pytest.mark.slow
def test_a_user_who_joined_after_the_fit_is_found_exported_and_deleted(guarded: tuple[Watched, httpx.Client]) -> None:
    watched, client = guarded
    page = watched.page
    for item in (1, 2, 3):
        client.put(f"/users/joined late/ratings/{item}", json={"rating": 4}).raise_for_status()
    page.goto("/#users")
    field = page.get_by_role("combobox", name="Find a user")
    field.fill("joined")
    option = page.get_by_role("listbox").get_by_role("option")
    expect(option).to_contain_text("joined late")
    expect(option).to_contain_text("3 ratings")
    field.press("ArrowDown")
    field.press("Enter")
    expect(page.get_by_text("Folded in: the user has ratings that are newer than the model.")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export").press("Enter")
    assert json.loads(saved.value.path().read_bytes()) == client.get("/users/joined late/export").json()
    page.get_by_role("button", name="Delete user").press("Enter")
    dialog = page.get_by_role("dialog", name="Delete the user joined late?")
    dialog.get_by_role("checkbox").press("Space")
    dialog.get_by_label("Admin key").fill(KEY)
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("The API key does not allow this request")
    assert len(client.get("/users/joined late/ratings").json()["ratings"]) == 3
    dialog.get_by_label("Admin key").fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.get_by_text("All ratings of joined late are deleted.")).to_be_visible()
    expect(page.get_by_text("The user is unknown")).to_be_visible()
    assert client.get("/users/joined late/ratings").json()["ratings"] == []


@pytest.mark.slow
def test_a_deletion_that_is_not_confirmed_deletes_nothing(guarded: tuple[Watched, httpx.Client]) -> None:
    watched, client = guarded
    page = watched.page
    before = client.get("/users/7/ratings").json()["ratings"]
    page.goto("/#users/7")
    page.get_by_role("button", name="Delete user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Admin key").fill(ADMIN)
    page.keyboard.press("Enter")  # the box is not ticked
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_attached()
    assert client.get("/users/7/ratings").json()["ratings"] == before
    assert ("DELETE", "/users/7") not in watched.requests


def test_an_explanation_of_a_rating_shows_one_number(browser: Browser, client: httpx.Client) -> None:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        page = watched.page
        page.goto("/#users/1")
        page.get_by_role("radio", name="Rating", exact=True).check()
        items = client.get("/users/1/top?n=20&rank_by=rating").json()["items"]
        for at in (0, 19):
            because = client.get(f"/users/1/because/{items[at]['item']}").json()
            page.get_by_role("list", name="List for 1").get_by_role("button").nth(at).click()
            clipped = abs(because["score"] - because["rating"]) > 0.005
            ends = f", which the scale ends at {because['rating']:.0f}" if clipped else ""
            expect(page.locator(".reasons caption")).to_contain_text(f"it is {because['score']:.2f}{ends}.")
