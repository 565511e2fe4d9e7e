"""Whether answers are those that the OpenAPI document of the service promises."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx

from app.main import create_app
from app.settings import Settings

PROBLEM_JSON = "application/problem+json"


@cache
def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    """Method, path and documented answers of each operation."""
    return [
        (method.upper(), re.compile(re.sub(r"\\{.*?\\}", "(?s:.+)", re.escape(path))), operation["responses"])
        for path, methods in create_app(Settings()).openapi()["paths"].items()
        for method, operation in methods.items()
    ]


def check_documented(response: httpx.Response) -> None:
    """Every answer has a status that the OpenAPI document names, and every error is a problem."""
    request = response.request
    for method, pattern, responses in _operations():
        if method == request.method and pattern.fullmatch(request.url.path):
            assert str(response.status_code) in responses
    if response.status_code >= 400:
        assert response.headers["content-type"] == PROBLEM_JSON
        if request.method == "HEAD":
            return
        problem = json.loads(response.read())
        assert problem["status"] == response.status_code
        assert {"type", "title", "detail"} <= problem.keys()
