"""The documentation is built without warnings, leads everywhere, and asks no other host for anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
LINKED_BUT_NOT_LOADED = {"canonical", "prev", "next", "edit"}


@dataclass
class Html(HTMLParser):
    """What a page links to (`links`), loads (`loaded`), and can be linked to at (`ids`); `navigation` is its menu."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    navigation: list[str] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._depth = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given["id"]} if "id" in given else set()
        self.classes |= set(given.get("class", "").split())
        if tag == "nav":
            self._depth += bool(self._depth) or "md-nav--primary" in given.get("class", "")
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
            self.navigation += [given["href"]] if self._depth else []
        if tag == "link" and given.get("rel") not in LINKED_BUT_NOT_LOADED:
            self.loaded.append(given["href"])
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])

    def handle_endtag(self, tag: str) -> None:
        if tag == "nav" and self._depth:
            self._depth -= 1


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    parsed = {}
    for path in sorted(site.rglob("*.html")):
        parsed[path] = Html()
        parsed[path].feed(path.read_text("utf-8"))
    return parsed


def test_every_page_is_in_the_menu(site: Path, pages: dict[Path, Html]) -> None:
    start = site / "index.html"
    listed = {(site / urlsplit(link).path).resolve() for link in pages[start].navigation}
    assert set(pages) - listed <= {start, site / "404.html"}


def test_every_link_inside_leads_somewhere(site: Path, pages: dict[Path, Html]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            address = urlsplit(link)
            if address.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            anchored = not address.fragment or unquote(address.fragment) in pages.get(target, Html()).ids
            if not target.is_file() or not (anchored or target.suffix != ".html"):
                dead.append((path.relative_to(site).as_posix(), link))
    assert dead == []


def test_links_to_the_outside_have_the_form_of_an_address(pages: dict[Path, Html]) -> None:
    outside = {link for page in pages.values() for link in page.links if urlsplit(link).scheme}
    ours = {link for link in outside if not link.startswith("https://squidfunk.github.io/")}
    assert ours
    for link in ours:
        assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[^\s]*)?", link), link


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Html]) -> None:
    assert {link for page in pages.values() for link in page.loaded if urlsplit(link).netloc} == set()
    for path in [*site.rglob("*.css"), *pages]:
        assert re.findall(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//", path.read_text("utf-8")) == [], path


def test_no_page_makes_the_theme_fetch_a_renderer(pages: dict[Path, Html]) -> None:
    """Its script would get one from a CDN for diagrams of this kind, and figures of a repository where one is named."""
    found = {name for page in pages.values() for name in page.classes}
    assert found & {"mermaid", "md-source", "md-source-file"} == set()
