"""How soon the console is seen, and how much a browser loads for it.

    python -m benchmarks.console [--loads 9]

Starts `python -m app` with random tables of the size of MovieLens-100K and opens each view in headless Chromium, every
time in a browser context without a cache: first paint, first contentful paint and largest contentful paint after the
navigation began, as the browser measures them, and the bytes of all files and answers that it loaded, as sent and as
read. Needs Chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from app.console.routes import read_files
from benchmarks.serving import running
from tests.support.browser import launch
from tests.support.drafts import publish_random

USERS, ITEMS, FACTORS, SEEN = 943, 1682, 48, 100
VIEWS = {
    "Model": "",
    "Users": "#users/7",
    "Items": "#items/7",
    "Try it": "#try",
    "Quality": "#quality",
    "Compare": "#compare",
    "Live": "#live",
    "Settings": "#settings",
}
PAINTS = """() => new Promise((done) => {
  new PerformanceObserver((list) => {
    const entries = performance.getEntriesByType("paint");
    const paints = Object.fromEntries(entries.map((entry) => [entry.name, entry.startTime]));
    const loaded = [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")];
    done({
      first: paints["first-paint"],
      contentful: paints["first-contentful-paint"],
      largest: list.getEntries().at(-1).startTime,
      sent: loaded.reduce((total, entry) => total + entry.encodedBodySize, 0),
      read: loaded.reduce((total, entry) => total + entry.decodedBodySize, 0),
    });
  }).observe({ type: "largest-contentful-paint", buffered: true });
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loads", type=int, default=9, help="of each view")
    loads = parser.parse_args().loads
    _print_files()
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        publish_random(Path(folder), USERS, ITEMS, FACTORS, SEEN)

        def command(port: int) -> list[str]:
            return [sys.executable, "-m", "app", "--device", "cpu", "--port", str(port)]

        with running("ratecast", Path(folder), "/health/ready", command, {"API_KEYS": ""}) as server:
            browser = launch(playwright)
            print("\n| view | first paint ms | first contentful ms, median (worst) | largest ms | kB sent | kB read |")
            print("|---|---|---|---|---|---|")
            for name, fragment in VIEWS.items():
                _print_view(name, list(_loads(browser, f"http://127.0.0.1:{server.port}/{fragment}", loads)))
            browser.close()


def _loads(browser: Browser, address: str, number: int) -> Iterator[dict[str, Any]]:
    for _ in range(number):
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.locator("h1").wait_for()
        page.wait_for_load_state("networkidle")
        yield page.evaluate(PAINTS)
        context.close()


def _print_view(name: str, found: list[dict[str, Any]]) -> None:
    def median(figure: str) -> float:
        return statistics.median(load[figure] for load in found)

    worst = max(load["contentful"] for load in found)
    sizes = (median("sent") / 1e3, median("read") / 1e3)
    print(
        f"| {name} | {median('first'):.0f} | {median('contentful'):.0f} ({worst:.0f}) | {median('largest'):.0f} | "
        f"{sizes[0]:.0f} | {sizes[1]:.0f} |"
    )


def _print_files() -> None:
    files = {path: file for path, file in read_files().items() if path.endswith((".js", ".css"))}
    plain, compressed = (sum(len(getattr(file, name)) for file in files.values()) for name in ("body", "compressed"))
    print(f"Script and style: {len(files)} files, {plain:,} bytes, compressed {compressed:,}.")


if __name__ == "__main__":
    main()
