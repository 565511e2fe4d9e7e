"""Behind a proxy that ends TLS and strips a prefix: no answer leads a client out of it."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.support.browser import launch, watching

PREFIX = "/rec"


@pytest.fixture(scope="module")
def proxied(client: httpx.Client) -> Iterator[httpx.Client]:
    """A client of the service behind a proxy as nginx's `location /rec/ { proxy_pass http://service/; }`."""
    service = client.base_url

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            upstream = http.client.HTTPConnection(service.host, service.port)
            headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": PREFIX, "Host": "api.shop.example"}
            upstream.request("GET", self.path.removeprefix(PREFIX), headers=headers)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever).start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as found:
            yield found
        server.shutdown()


@pytest.mark.slow
def test_the_page_of_the_document_asks_nobody_else_and_sends_requests(proxied: httpx.Client) -> None:
    origin = str(proxied.base_url).rstrip("/")
    with sync_playwright() as playwright, launch(playwright) as browser, watching(browser, origin) as watched:
        page = watched.page
        page.goto(f"{origin}{PREFIX}/docs")
        page.get_by_text("/health/live").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.get_by_text('"status": "live"').first.wait_for()
        for path, operations in proxied.get(f"{PREFIX}/openapi.json").json()["paths"].items():
            for operation in operations.values():
                page.locator(f"[id$=-{operation['operationId']}]").first.wait_for()
                assert path
    assert watched.elsewhere == []
    assert watched.complaints == []
    assert {path for _, path in watched.requests} >= {f"{PREFIX}/openapi.json", f"{PREFIX}/health/live"}


def test_the_page_finds_the_document_and_the_document_the_service(proxied: httpx.Client) -> None:
    page = proxied.get(f"{PREFIX}/docs")
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert proxied.get(urljoin(str(page.url), address)).status_code == 200
    (named,) = re.findall(r'url: "([^"]+)"', proxied.get(f"{PREFIX}/docs/start.js").text)
    where = urljoin(str(page.url), named)
    assert urlsplit(where).path == f"{PREFIX}/openapi.json"
    document = proxied.get(where).json()
    (server,) = document["servers"]
    base = urljoin(where, server["url"]).rstrip("/")
    assert "/health/live" in document["paths"]
    assert proxied.get(f"{base}/health/live").json() == {"status": "live"}


PATHS = [
    "/users/1/top",
    "/users",
    "/health/live",
    "/docs",
    "/openapi.json",
    "/models",
    "/predict",
    "/console",
    "/users/1",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_slash_behind_a_path_is_a_404_and_leads_nowhere(proxied: httpx.Client, path: str) -> None:
    answer = proxied.get(f"{PREFIX}{path}/")
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_path_without_the_slash_that_another_has_is_a_404_too(proxied: httpx.Client) -> None:
    assert proxied.get(f"{PREFIX}/console").status_code == 404
