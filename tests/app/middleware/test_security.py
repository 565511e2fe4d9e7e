"""What `docs/security.md` promises of keys, headers, limits and logs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.api.documentation import PARTS
from app.main import create_app
from app.middleware.access import ApiKeys, Principal
from app.middleware.rate_limit import RateLimit
from app.observability.logs import JsonFormatter
from app.settings import ConfigurationError, Settings, is_loopback
from models.errors import RatecastError
from models.registry.directory import current_version
from tests.support import ROOT
from tests.support.asgi import Answer, Caller, calling

CLIENT, OTHER, ADMIN = "client-key-0123456789", "other-key-0123456789", "admin-key-0123456789"
PAIR, JSON = b'{"user": "1", "item": "2"}', ("content-type", "application/json")
Start = Callable[..., AbstractContextManager[tuple[httpx.Client, "subprocess.Popen[str]"]]]


def service(checkpoints: Path, **settings: object) -> AbstractContextManager[Caller]:
    return calling(create_app(Settings(checkpoints=checkpoints, **settings)))


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (JSON, ("authorization", f"Bearer {key}"))


def kind(answer: Answer) -> str:
    return str(json.loads(answer.body)["type"]).removeprefix("urn:ratecast:problem:")


@pytest.mark.parametrize(
    ("clients", "admins", "expected"),
    [
        ([], [], {None: 200, CLIENT: 200}),
        ([CLIENT], [], {None: 401, CLIENT: 403, ADMIN: 401}),
        ([], [ADMIN], {None: 401, CLIENT: 401, ADMIN: 200}),
        ([CLIENT, OTHER], [ADMIN], {None: 401, CLIENT: 403, OTHER: 403, ADMIN: 200, "nobody's-key-0123": 401}),
    ],
)
def test_only_an_admin_key_changes_state_where_there_are_keys(
    checkpoints: Path, clients: list[str], admins: list[str], expected: dict[str | None, int]
) -> None:
    keys = {"api_keys": SecretStr(",".join(clients)), "admin_keys": SecretStr(",".join(admins))}
    path = f"/models/{current_version(checkpoints)}/activate"
    with service(checkpoints, **keys) as call:
        for key, status in expected.items():
            assert call("POST", path, b"", () if key is None else bearer(key)).status == status
        for method in ("PUT", "DELETE", "PATCH"):
            allowed = {"PUT": 422, "DELETE": 200, "PATCH": 405}[method]  # the first for want of a body
            expected_of_client = expected[CLIENT] if clients + admins else allowed
            assert call(method, "/users/rated here/ratings/2", b"", bearer(CLIENT)).status == expected_of_client


def test_an_admin_key_may_ask_too_and_a_client_may_where_only_admins_have_keys(checkpoints: Path) -> None:
    with service(checkpoints, api_keys=SecretStr(CLIENT), admin_keys=SecretStr(ADMIN)) as call:
        assert call("POST", "/predict", PAIR, bearer(ADMIN)).status == 200
    with service(checkpoints, admin_keys=SecretStr(ADMIN)) as call:
        assert call("POST", "/predict", PAIR, (JSON,)).status == 200


def test_principals_are_told_apart() -> None:
    keys = ApiKeys([CLIENT, OTHER], [ADMIN])
    found = [keys.principal(f"Bearer {key}".encode()) for key in (CLIENT, OTHER, ADMIN)]
    assert [(principal.changes, principal.admin) for principal in found if principal] == [(False, False)] * 2 + [
        (True, True)
    ]
    assert len({principal.number for principal in (*found, ApiKeys([]).principal(None)) if principal}) == 4
    assert ApiKeys([]).principal(None) == Principal(-1, changes=True, admin=False)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1")),
        *((host, False) for host in ("0.0.0.0", "::", "192.0.2.7")),
    ],
)
def test_only_loopback_addresses_are_out_of_reach_of_others(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_a_service_that_others_reach_does_not_start_without_keys_unless_told_so(
    refusal: Callable[..., str], checkpoints: Path
) -> None:
    line = refusal("--checkpoints", str(checkpoints), "--port", "0", "--host", "0.0.0.0")
    assert "RATECAST_ALLOW_ANONYMOUS" in line
    Settings(host="0.0.0.0", allow_anonymous=True).check_exposure()
    Settings(host="0.0.0.0", api_keys=SecretStr(CLIENT)).check_exposure()
    with pytest.raises(ConfigurationError):
        Settings(host="0.0.0.0", admin_keys=SecretStr(ADMIN)).check_exposure()


@pytest.mark.parametrize("setting", ["API_KEYS", "ADMIN_KEYS"])
def test_bad_keys_end_the_start_with_one_line_though_everybody_may_ask(
    refusal: Callable[..., str], checkpoints: Path, setting: str
) -> None:
    bad = {"allow_anonymous": "true", setting.lower(): "short"}
    assert f"RATECAST_{setting}" in refusal("--checkpoints", str(checkpoints), "--port", "0", **bad)


@pytest.mark.parametrize("path", ["/predict", "/users/1/top", "/nowhere", "/health/live", "/models/current", "/docs"])
def test_every_answer_has_the_security_headers_and_no_banner(checkpoints: Path, path: str) -> None:
    with service(checkpoints) as call:
        headers = call("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert not {"server", "x-powered-by", "access-control-allow-origin"} & headers.keys()


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_pages_from_elsewhere_may_not_ask_unless_their_origin_is_named(checkpoints: Path, method: str) -> None:
    asked = [("access-control-request-method", "GET")] if method == "OPTIONS" else []
    with service(checkpoints, cors_origins="https://shop.example, https://b.example") as call:
        for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
            headers = call(method, "/users/1/top", b"", [("origin", origin), *asked]).headers
            assert (headers.get("access-control-allow-origin") == origin) == allowed
    with service(checkpoints) as call:
        headers = call(method, "/users/1/top", b"", [("origin", "https://shop.example"), *asked]).headers
        assert "access-control-allow-origin" not in headers


def test_preflights_need_no_key_and_have_every_header_of_an_answer_and_pages_can_read_refusals(
    checkpoints: Path,
) -> None:
    origin = ("origin", "https://shop.example")
    preflight = (origin, ("access-control-request-method", "POST"), ("access-control-request-headers", "authorization"))
    with service(checkpoints, api_keys=SecretStr(CLIENT), cors_origins=origin[1]) as call:
        allowed = call("OPTIONS", "/predict", b"", preflight)
        refused = call("POST", "/predict", PAIR, (JSON, origin))
        text = call("GET", "/metrics", b"", bearer(CLIENT)).body.decode()
    assert (allowed.status, refused.status) == (200, 401)
    assert "PATCH" in allowed.headers["access-control-allow-methods"]
    may_send = allowed.headers["access-control-allow-headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Traceparent", "X-Request-Id"} <= {*may_send}
    for answer in (allowed, refused):
        assert answer.headers["access-control-allow-origin"] == origin[1]
        assert {"x-request-id", "x-content-type-options", "content-security-policy"} <= answer.headers.keys()
    assert refused.headers["access-control-expose-headers"] == "X-Request-Id, Retry-After"
    assert 'ratecast_requests_total{method="OPTIONS",route="none",status="200"} 1.0' in text


def test_the_page_of_the_documentation_names_no_other_host_and_is_the_only_page(checkpoints: Path) -> None:
    with service(checkpoints) as call:
        page = call("GET", "/docs")
        nothing = ("/redoc", "/docs/oauth2-redirect", "/docs/start.js%0A")
        assert [call("GET", path).status for path in nothing] == [404] * 3
        parts = [call("GET", f"/docs/{name}") for name in PARTS]
    assert "//" not in page.body.decode() + page.headers["content-security-policy"]
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert [part.headers["cache-control"] for part in parts] == ["no-cache"] * 3
    assert all(part.headers["etag"] for part in parts)


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_held_up(checkpoints: Path) -> None:
    keys = {"api_keys": SecretStr(f"{CLIENT},{OTHER}"), "rate_limit": 0.5}
    with service(checkpoints, **keys) as call:
        assert call("POST", "/predict", PAIR, bearer(CLIENT)).status == 200
        refused = call("POST", "/predict", PAIR, bearer(CLIENT))
        assert (refused.status, kind(refused), refused.headers["retry-after"]) == (429, "too-many-requests", "2")
        assert call("POST", "/predict", PAIR, bearer(OTHER)).status == 200
        assert call("GET", "/health/ready", b"", bearer(CLIENT)).status == 200


def test_the_pages_take_nothing_of_the_share(checkpoints: Path) -> None:
    with service(checkpoints, rate_limit=0.5) as call:
        assert [call("GET", path).status for path in ("/", "/console/app.js", "/console/style.css", "/docs")] == [
            200
        ] * 4
        assert [call("POST", "/predict", PAIR, (JSON,)).status for _ in range(2)] == [200, 429]


def test_admins_are_not_held_to_a_rate_and_whoever_needs_no_key_shares_one(checkpoints: Path) -> None:
    with service(checkpoints, admin_keys=SecretStr(ADMIN), rate_limit=0.5) as call:
        assert [call("POST", "/predict", PAIR, bearer(ADMIN)).status for _ in range(3)] == [200] * 3
        assert [call("POST", "/predict", PAIR, (JSON,)).status for _ in range(2)] == [200, 429]


def test_a_share_fills_up_again_with_time_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("app.middleware.rate_limit.time.monotonic", lambda: now)
    rates = RateLimit(8)
    assert [rates.wait(1) for _ in range(16)] == [0.0] * 16
    assert rates.wait(1) == 0.125
    now += 0.125
    assert rates.wait(1) == 0
    assert rates.wait(1) > 0
    now += 3600
    assert [rates.wait(1) for _ in range(16)] == [0.0] * 16
    assert rates.wait(1) > 0


def test_work_beyond_the_bound_is_refused_before_it_is_read_and_health_is_not(checkpoints: Path) -> None:
    with service(checkpoints, max_concurrent=1) as call:
        answers = call.at_once(("POST", "/predict", PAIR), ("POST", "/predict", PAIR), ("GET", "/health/live", b""))
        assert [answer.status for answer in answers] == [200, 503, 200]
        assert (kind(answers[1]), answers[1].headers["retry-after"]) == ("overloaded", "1")
        assert call("POST", "/predict", PAIR, (JSON,)).status == 200


SECRET = "s3cr3t"


def test_no_log_holds_what_a_client_sent(checkpoints: Path, start: Start) -> None:
    """With every request logged at the most talkative level, over a real connection."""
    settings = {"log_level": "debug", "log_sample": "1", "log_format": "json", "api_keys": f"{SECRET}-key-0123456789"}
    with start(checkpoints, **settings) as (client, process):
        client.headers["authorization"] = f"Bearer {SECRET}-key-0123456789"
        client.post("/predict", json={"user": SECRET, "item": SECRET})
        client.post("/predict", content=SECRET, headers={"content-type": "application/json"})
        client.post("/predict", content=SECRET, headers={"content-type": SECRET})
        client.get(f"/users/{SECRET}/top?n={SECRET}")
        client.get(f"/items/{SECRET}?strict={SECRET}")
        client.get(f"/items/{SECRET}")
        client.get(f"/{SECRET}", headers={"authorization": f"Bearer {SECRET}"})
        client.post(f"/models/{SECRET}/activate")
        answer = client.get("/health/live", headers={"x-request-id": "seen-in-the-log"})
        assert answer.headers["x-request-id"] == "seen-in-the-log"
        log = Path(process.log_file)  # type: ignore[attr-defined]
        deadline = time.monotonic() + 30
        while '"seen-in-the-log"' not in log.read_text() or not log.read_text().endswith("\n"):
            assert time.monotonic() < deadline  # a request is logged after it was answered
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    requests = [line for line in lines if line["logger"] == "app.requests"]
    assert SECRET not in json.dumps(lines)
    assert "127.0.0.1:" not in json.dumps(requests)
    assert {"/predict", "/users/{user:id}/top", "/items/{item:id}", "none"} <= {line["route"] for line in requests}
    assert {line["status"] for line in requests} >= {200, 401, 403, 404, 422}
    assert any(line["request_id"] == "seen-in-the-log" for line in requests)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["time"]) for line in lines)


def test_a_bug_is_logged_without_its_message(checkpoints: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "app.requests")
    with service(checkpoints, log_sample=0) as call:
        call._state["engine"] = SECRET  # whatever is asked of it now is a bug
        with pytest.raises(AttributeError):
            call("POST", "/predict", PAIR, (JSON,))
    (record,) = [record for record in caplog.records if record.name == "app.requests"]
    assert record.fields["status"] == 500  # type: ignore[attr-defined]
    error = RatecastError(SECRET)
    record.exc_info = (RatecastError, error, None)
    line = JsonFormatter().format(record)
    assert SECRET not in line
    assert json.loads(line)["exception"]["type"] == "models.errors.RatecastError"


LOGGING = """
import logging.config, sys
from app.observability.logs import configuration
logging.config.dictConfig(configuration("info", sys.argv[1]))
"""
STRANGER = """
try:
    try:
        {}["s3cr3t"]
    except KeyError as error:
        raise ValueError("s3cr3t") from error
except ValueError:
    logging.getLogger("somebody.elses").exception("It failed")
"""
STARTUP = """
import uvicorn
from app.engine.errors import NotReadyError
from fastapi import FastAPI
async def broken(app):
    raise NotReadyError("there is no checkpoint")
    yield
uvicorn.run(FastAPI(lifespan=broken), port=0, log_config=configuration("info", sys.argv[1]))
"""


def logged(program: str, form: str = "json") -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOGGING + program, form]
    root = ROOT
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=60).stderr


def test_loggers_of_libraries_are_held_to_the_same_and_tell_what_an_exception_came_from() -> None:
    text = logged(STRANGER)
    (line,) = map(json.loads, text.splitlines())
    assert (line["logger"], line["message"]) == ("somebody.elses", "It failed")
    assert (line["exception"]["type"], line["exception"]["from"]["type"]) == (
        "builtins.ValueError",
        "builtins.KeyError",
    )
    for written in (text, logged(STRANGER, "text")):
        assert SECRET not in written
        assert written.index("ValueError") < written.index("KeyError")


def test_the_log_says_why_a_service_could_not_start() -> None:
    messages = [json.loads(line)["message"] for line in logged(STARTUP).splitlines()]
    assert "app.engine.errors.NotReadyError: there is no checkpoint" in messages


def test_the_share_of_logged_requests_is_what_was_asked_for(
    checkpoints: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.requests")
    counts = []
    for share in (0, 0.5, 1):
        caplog.clear()
        with service(checkpoints, log_sample=share) as call:
            for _ in range(200):
                call("GET", "/health/live")
        counts.append(len([record for record in caplog.records if record.name == "app.requests"]))
    assert counts[0] == 0 < counts[1] < counts[2] == 200


def test_rejections_are_counted_by_cause(checkpoints: Path) -> None:
    with service(checkpoints, api_keys=SecretStr(CLIENT), max_body_bytes=100, max_pairs=1) as call:
        call("POST", "/predict", PAIR)
        call("POST", "/predict", b"{", bearer(CLIENT))
        call("POST", "/predict", b" " * 101, bearer(CLIENT))
        call("POST", "/models/x/activate", b"", bearer(CLIENT))
        call("GET", "/nowhere", b"", bearer(CLIENT))
        call("POST", "/predict", PAIR, bearer(CLIENT), b"strict=true")
        call("POST", "/predict", b'{"user": "?", "item": "2"}', bearer(CLIENT), b"strict=true")
        text = call("GET", "/metrics", b"", bearer(CLIENT)).body.decode()
    found = dict(re.findall(r'^ratecast_rejections_total\{cause="(\S+)"\} (\S+)', text, re.MULTILINE))
    causes = ("unauthorized", "invalid-request", "body-too-large", "forbidden", "http-404", "unknown-user")
    assert found == dict.fromkeys(causes, "1.0")
