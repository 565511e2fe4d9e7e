"""Servers that fail in every way there is, over real sockets; time passes only in a clock of the test."""

from __future__ import annotations

import copy
import json
import socket
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import ratecast_client as r
from ratecast_client.exchange import Attempt, Request, http_request

from tests.client.conftest import Connect, HandClock
from tests.support.faulty_server import answer, drip, faulty_server, hang_up, problem, raw, stay_silent
from tests.support.ports import held_port

PREDICTION = {"rating": 4.5, "source": "model", "model_version": "v1"}
STORED = {"stored": 1, "unknown_items": 0, "model_version": "v1"}
GOOD = answer(200, PREDICTION)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_after_the_seconds_it_names(
    connect: Connect, hand_clock: HandClock, status: int
) -> None:
    with faulty_server([problem(status, Retry_After="7"), problem(status, Retry_After="2"), GOOD]) as server:
        client = connect(server.url, clock=hand_clock.clock())
        assert client.predict("1", "2").rating == 4.5
    assert hand_clock.pauses == [7.05, 2.1]
    assert len({request.headers["x-request-id"] for request in server.received}) == 1


def test_a_date_to_come_back_is_read_by_the_clock_of_the_service(connect: Connect, hand_clock: HandClock) -> None:
    now = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
    busy = problem(503, Retry_After=http_date(now + 9), Date=http_date(now))
    with faulty_server([busy, GOOD]) as server:
        connect(server.url, clock=hand_clock.clock()).predict("1", "2")
    assert hand_clock.pauses == [9.05]


def test_a_date_without_another_is_read_by_the_clients_clock(connect: Connect, hand_clock: HandClock) -> None:
    with faulty_server([problem(503, Retry_After=http_date(1_800_000_004.0)), GOOD]) as server:
        connect(server.url, clock=hand_clock.clock()).predict("1", "2")
    assert hand_clock.pauses == [4.05]


@pytest.mark.parametrize("text", ["soon", "", "-1", "Mon, 99 Foo 2026", http_date(0.0), "٣"])
def test_a_time_to_come_back_that_says_nothing_is_passed_over(
    connect: Connect, hand_clock: HandClock, text: str
) -> None:
    with faulty_server([raw(busy_with(text)), GOOD]) as server:
        connect(server.url, clock=hand_clock.clock()).predict("1", "2")
    assert hand_clock.pauses == [0.05]


def busy_with(retry_after: str) -> bytes:
    return f"HTTP/1.1 503 Busy\r\nConnection: close\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n".encode()


def test_pauses_double_up_to_a_longest_one_and_attempts_end(connect: Connect, hand_clock: HandClock) -> None:
    retries = r.Retries(attempts=6, first_pause=1.0, longest_pause=5.0)
    with faulty_server([problem(503)]) as server:
        client = connect(server.url, clock=hand_clock.clock(), retries=retries)
        with pytest.raises(r.UnavailableError):
            client.predict("1", "2")
    assert hand_clock.pauses == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert len(server.received) == 6


def test_nobody_waits_for_a_time_beyond_the_deadline(connect: Connect, hand_clock: HandClock) -> None:
    with faulty_server([problem(503, Retry_After="3600")]) as server:
        client = connect(server.url, clock=hand_clock.clock(), deadline=60.0)
        with pytest.raises(r.UnavailableError) as caught:
            client.predict("1", "2")
    assert caught.value.retry_after == 3600
    assert hand_clock.pauses == []
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "fault",
    [hang_up, raw(HEAD + b'{"rating"'), raw(b"HTTP/1.1 200 OK\r\nContent-"), raw(b"\x00\xff SSH-2.0 garbage\r\n\r\n")],
    ids=["no byte", "half a body", "half a head", "not HTTP"],
)
def test_a_broken_answer_is_asked_for_again(connect: Connect, hand_clock: HandClock, fault: Any) -> None:
    with faulty_server([fault, fault, GOOD]) as server:
        assert connect(server.url, clock=hand_clock.clock()).predict("1", "2").rating == 4.5
    assert hand_clock.pauses == [0.05, 0.1]
    assert len(server.received) == 3


def test_a_service_that_stays_broken_is_a_transport_error(connect: Connect, hand_clock: HandClock) -> None:
    with faulty_server([hang_up]) as server:
        client = connect(server.url, clock=hand_clock.clock(), retries=r.Retries(attempts=3))
        with pytest.raises(r.TransportError, match=r"POST /predict: .+") as caught:
            client.predict("1", "2")
    assert len(server.received) == 3
    assert caught.value.status is None
    assert caught.value.type == "about:blank"
    assert caught.value.detail == caught.value.title == caught.value.message
    assert caught.value.errors == ()
    assert isinstance(caught.value.__cause__, httpx.RequestError)
    assert caught.value.request_id == server.received[0].headers["x-request-id"]


def test_a_service_that_is_not_there_is_tried_and_is_a_transport_error(connect: Connect, hand_clock: HandClock) -> None:
    with held_port() as port:
        client = connect(f"http://127.0.0.1:{port}", clock=hand_clock.clock(), retries=r.Retries(attempts=3))
        for ask in (lambda: client.predict("1", "2"), lambda: client.activate("v1")):  # nothing was sent: both may
            hand_clock.pauses.clear()
            with pytest.raises(r.TransportError):
                ask()
            assert len(hand_clock.pauses) == 2


@pytest.mark.parametrize("fault", [hang_up, problem(503), problem(429), raw(HEAD)])
def test_what_may_not_be_done_twice_is_sent_once(connect: Connect, hand_clock: HandClock, fault: Any) -> None:
    with faulty_server([fault, answer(200, {"model_version": "v1"})]) as server:
        client = connect(server.url, clock=hand_clock.clock())
        with pytest.raises(r.RatecastError):
            client.activate("v1")
    assert len(server.received) == 1


@pytest.mark.parametrize("question", ["live", "ready"])
def test_health_is_asked_once(connect: Connect, hand_clock: HandClock, question: str) -> None:
    with faulty_server([problem(503)]) as server:
        client = connect(server.url, clock=hand_clock.clock())
        with pytest.raises(r.UnavailableError):
            getattr(client, question)()
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 501, 502, 504])
def test_other_errors_are_not_asked_again(connect: Connect, hand_clock: HandClock, status: int) -> None:
    with faulty_server([problem(status)]) as server:
        client = connect(server.url, clock=hand_clock.clock())
        with pytest.raises(r.RatecastError) as caught:
            client.predict("1", "2")
    assert len(server.received) == 1
    assert caught.value.status == status
    assert caught.value.type == f"urn:ratecast:problem:status-{status}"
    assert (caught.value.title, caught.value.detail) == ("A title", "a detail")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, r.UnexpectedAnswerError),
        (401, r.UnauthorizedError),
        (403, r.ForbiddenError),
        (404, r.NotFoundError),
        (409, r.ConflictError),
        (413, r.InvalidError),
        (422, r.InvalidError),
        (429, r.TooManyRequestsError),
        (500, r.ServerError),
        (503, r.UnavailableError),
        (504, r.ServerError),
        (599, r.ServerError),
    ],
)
def test_every_status_has_its_class_also_without_a_problem_document(
    connect: Connect, status: int, kind: type[r.RatecastError]
) -> None:
    page = b"<html>a proxy</html>"
    head = f"HTTP/1.1 {status} Odd\r\nX-Request-ID: proxy-1\r\nContent-Length: {len(page)}\r\n\r\n"
    with faulty_server([raw(head.encode() + page)]) as server:
        client = connect(server.url, retries=r.Retries(attempts=1))
        with pytest.raises(r.RatecastError) as caught:
            client.predict("1", "2")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.request_id) == (status, "proxy-1")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "expected an object"),
        ([], "expected an object"),
        ({"rating": 4.5, "source": "model"}, "model_version: missing"),
        (PREDICTION | {"rating": "4.5"}, "rating: expected a number"),
        (PREDICTION | {"rating": None}, "rating: expected a number"),
        (PREDICTION | {"source": 1}, "source: expected a string"),
    ],
)
def test_an_answer_of_something_else_names_what_is_wrong(connect: Connect, document: Any, said: str) -> None:
    with faulty_server([answer(200, document)]) as server:
        client = connect(server.url)
        with pytest.raises(r.UnexpectedAnswerError, match=said):
            client.predict("1", "2")
    assert len(server.received) == 1


def test_an_answer_that_is_not_json_is_unexpected(connect: Connect) -> None:
    page = b"<html>sign in</html>"
    with faulty_server([raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))]) as server:
        client = connect(server.url)
        with pytest.raises(r.UnexpectedAnswerError):
            client.predict("1", "2")


def test_members_that_are_new_are_passed_over(connect: Connect) -> None:
    newer = PREDICTION | {"source": "of next year", "lower": 3.5, "more": {"a": [1]}}
    with faulty_server([answer(200, newer)]) as server:
        found = connect(server.url).predict("1", "2")
    assert found == r.PairPrediction(rating=4.5, source="of next year", model_version="v1")  # type: ignore[arg-type]


def test_a_silent_service_is_given_up_after_the_timeout(connect: Connect) -> None:
    with faulty_server([stay_silent]) as server:
        client = connect(server.url, timeout=0.05, retries=r.Retries(attempts=2, first_pause=0.0))
        with pytest.raises(r.TransportError) as caught:
            client.predict("1", "2")
    assert type(caught.value) is r.TransportError
    assert len(server.received) == 2


@pytest.mark.parametrize("fault", [stay_silent, drip(HEAD, b" ")], ids=["silent", "a byte at a time"])
def test_the_deadline_ends_what_would_go_on(connect: Connect, fault: Any) -> None:
    with faulty_server([fault]) as server:
        client = connect(server.url, timeout=30.0, deadline=0.2)
        with pytest.raises(r.DeadlineError, match=r"no answer within 0.2 s"):
            client.predict("1", "2")
    assert len(server.received) == 1


def test_each_step_of_an_attempt_has_what_the_others_left(hand_clock: HandClock) -> None:
    attempt = Attempt(Request("GET", "/"), pause=0.0, seconds=10.0, timeout=7.0)
    timeouts = http_request(attempt, hand_clock.clock())["extensions"]["timeout"]
    left = []
    for seconds in (0.0, 2.0, 4.0, 6.0):
        hand_clock.seconds += seconds
        left.append(timeouts.get("read"))
    assert left == [7.0, 7.0, 4.0, 0.001]
    assert dict(timeouts).keys() == {"connect", "read", "write", "pool"}


def test_ratings_are_sent_again_with_the_same_key_and_body(connect: Connect, hand_clock: HandClock) -> None:
    with faulty_server([hang_up, problem(503), answer(200, STORED)]) as server:
        client = connect(server.url, clock=hand_clock.clock())
        client.rate_many(["1"], ["2"], [3])
        client.rate_many(["1"], ["2"], [3])
        client.rate_many(["1"], ["2"], [3], idempotency_key="mine")
    first, second, third, fourth, fifth = (request.headers["idempotency-key"] for request in server.received)
    assert first == second == third
    assert fourth not in (first, "mine")
    assert fifth == "mine"
    assert {request.body for request in server.received} == {b'{"users":["1"],"items":["2"],"ratings":[3.0]}'}


def test_the_key_is_shown_to_the_service_and_to_nobody_who_reads_errors(connect: Connect) -> None:
    with faulty_server([problem(403)]) as server:
        client = connect(server.url, "a-secret-key-of-somebody")
        with pytest.raises(r.ForbiddenError) as caught:
            client.predict("1", "2")
    assert server.received[0].headers["authorization"] == "Bearer a-secret-key-of-somebody"
    assert server.received[0].headers["user-agent"] == f"ratecast-client/{r.__version__}"
    assert "secret" not in f"{client!r} {caught.value!r} {caught.value}"


def test_a_redirect_is_not_followed_so_that_the_key_stays_here(connect: Connect) -> None:
    with faulty_server([GOOD]) as elsewhere:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}/predict\r\nContent-Length: 0\r\n\r\n"
        with faulty_server([raw(moved.encode())]) as server, pytest.raises(r.UnexpectedAnswerError):
            connect(server.url, "a-secret-key-of-somebody").predict("1", "2")
    assert elsewhere.received == []


def three_answers(connection: socket.socket) -> None:
    """To three requests that come on the same connection."""
    body = json.dumps(PREDICTION).encode()
    for _ in range(3):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        if not connection.recv(65536):
            return


def test_a_connection_is_used_again(connect: Connect) -> None:
    with faulty_server([three_answers]) as server:
        client = connect(server.url)
        assert {client.predict("1", "2").rating for _ in range(4)} == {4.5}
    assert len(server.received) == 2  # the first request of each connection


def test_a_path_in_the_url_goes_before_those_of_the_service(connect: Connect) -> None:
    with faulty_server([GOOD]) as server:
        connect(f"{server.url}/behind/a/proxy").predict("1", "2", strict=True)
    assert server.received[0].target == "/behind/a/proxy/predict?strict=true"
    assert json.loads(server.received[0].body) == {"user": "1", "item": "2"}


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://localhost", "http://", "/predict"])
def test_a_url_of_another_kind_is_refused_at_once(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match="must begin with http:// or https://"):
        connect(url)


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_repeated(connect: Connect, key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        connect("http://127.0.0.1", key)
    assert key not in str(caught.value)


def test_errors_can_be_copied_as_on_the_way_to_other_processes(connect: Connect) -> None:
    with faulty_server([problem(422)]) as server:
        client = connect(server.url)
        with pytest.raises(r.InvalidError) as caught:
            client.predict("1", "2")
    again = copy.copy(caught.value)
    assert (type(again), again.problem, str(again)) == (r.InvalidError, caught.value.problem, str(caught.value))
