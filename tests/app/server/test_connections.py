"""Hostile, slow and broken clients on real sockets: each is refused or given up, and others are answered meanwhile."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from app.server.bounds import MAX_HEAD

Start = Callable[..., AbstractContextManager[tuple[httpx.Client, "subprocess.Popen[str]"]]]
SECONDS = 0.4
PATIENCE = 30.0
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"user": "1", "item": "2"}'
PREDICT = HEAD + b"Content-Length: 26\r\n\r\n" + BODY
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def running(start: Start, checkpoints: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """A service that loses its patience soon."""
    with start(checkpoints, max_seconds=str(SECONDS), idle_seconds="1", max_body_bytes="300000") as (client, process):
        yield client, psutil.Process(process.pid)


@pytest.fixture
def service(running: tuple[httpx.Client, psutil.Process]) -> Iterator[httpx.Client]:
    """The same, which must answer rightly, hold no connection and have grown little when the test is over."""
    client, process = running
    expected = predict(client)
    before = process.memory_info().rss
    yield client
    assert predict(client) == expected
    deadline = time.monotonic() + PATIENCE
    while len(process.net_connections("tcp")) > 2:  # the listener and the client's
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.memory_info().rss - before < 50 << 20


def predict(client: httpx.Client) -> float:
    answer = client.post("/predict", content=BODY, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    return float(answer.json()["rating"])


@contextmanager
def connection(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE) as opened:
        yield opened


def rest(opened: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    parts = []
    try:
        while part := opened.recv(65_536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def is_problem(answer: bytes, status: int) -> bool:
    head, _, body = answer.rpartition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    return head.rpartition(b"HTTP/1.1 ")[2].startswith(str(status).encode()) and json.loads(body)["status"] == status


def test_a_head_that_comes_byte_by_byte_is_given_up(service: httpx.Client) -> None:
    with connection(service) as slow:
        assert is_problem(trickle(slow, PREDICT), 408)


def test_a_body_that_comes_byte_by_byte_is_given_up(service: httpx.Client) -> None:
    with connection(service) as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        assert is_problem(trickle(slow, b" " * 1_000), 408)


def test_chunks_that_come_byte_by_byte_are_given_up(service: httpx.Client) -> None:
    with connection(service) as slow:
        slow.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert is_problem(trickle(slow, b"1\r\n \r\n" * 200), 408)


def trickle(opened: socket.socket, data: bytes) -> bytes:
    opened.settimeout(0.05)
    for at in range(len(data)):
        try:
            opened.sendall(data[at : at + 1])
            if answer := opened.recv(65_536):
                opened.settimeout(PATIENCE)
                return answer + rest(opened)
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return rest(opened)


@pytest.mark.parametrize(
    "begun",
    [
        b"P",
        HEAD,
        HEAD + b"Content-Length: 26\r\n\r\n",
        HEAD + b"Content-Length: 26\r\n\r\n" + BODY[:-1],
        LIVE + b"GET /",
    ],
    ids=["method", "head", "no-body", "most-of-the-body", "second-request"],
)
def test_a_client_that_stops_in_the_middle_is_given_up(service: httpx.Client, begun: bytes) -> None:
    with connection(service) as stuck:
        stuck.sendall(begun)
        assert is_problem(rest(stuck), 408)


@pytest.mark.parametrize("sent", [b"", b"\r\n", LIVE, LIVE + b"\r\n\r\n"], ids=["nothing", "line", "request", "lines"])
def test_a_connection_without_a_request_is_closed_in_the_end(service: httpx.Client, sent: bytes) -> None:
    with connection(service) as idle:
        idle.sendall(sent)
        assert rest(idle).count(b"HTTP/1.1 200") == sent.count(LIVE)


def test_a_client_that_does_not_read_its_answer_is_given_up(start: Start, checkpoints: Path) -> None:
    """Its answers are larger than the buffers of both ends."""
    with start(checkpoints, max_seconds=str(SECONDS), idle_seconds="1") as (client, process):
        users = [str(number) for number in range(20_000)]
        body = json.dumps({"users": users, "items": users}).encode()
        with connection(client) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(0.2)
            send_until_stuck(deaf, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            deadline = time.monotonic() + PATIENCE
            while len(psutil.Process(process.pid).net_connections("tcp")) > 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert predict(client) > 0


def send_until_stuck(opened: socket.socket, data: bytes) -> None:
    for _ in range(1_000):
        try:
            opened.sendall(data)
        except (TimeoutError, ConnectionError):
            return
    pytest.fail("the service takes all there is")


GARBAGE = {
    "binary": bytes(range(256)),
    "zeros": bytes(1_000),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bad-version": b"GET / HTTP/9.9\r\n\r\n",
    "bad-method": b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
    "space-in-target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "control-in-header": b"GET / HTTP/1.1\r\nA\x00b: c\r\n\r\n",
    "no-colon": b"GET / HTTP/1.1\r\nnothing\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    "raw-bytes-in-target": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "two-lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 26\r\n\r\n" + BODY,
    "length-and-chunks": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + LIVE,
    "chunks-not-last": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "negative-length": HEAD + b"Content-Length: -1\r\n\r\n",
    "huge-length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "no-number": HEAD + b"Content-Length: ten\r\n\r\n",
    "bad-chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "huge-chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "connect": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no-path": b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_request_gets_a_problem_that_repeats_nothing_and_the_connection_ends(
    service: httpx.Client, garbage: bytes
) -> None:
    with connection(service) as broken:
        broken.sendall(garbage)
        answer = rest(broken)
    status = int(answer.split(b" ")[1])
    assert status in (400, 404, 408, 413)
    assert is_problem(answer, status)
    assert answer.count(b"HTTP/1.1 ") == 1  # what is smuggled in behind it is not answered


def test_an_upgrade_that_is_not_offered_is_answered_as_any_request(service: httpx.Client) -> None:
    with connection(service) as upgrading:
        upgrading.sendall(LIVE[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert upgrading.recv(65_536).startswith(b"HTTP/1.1 200")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n1a\r\n" + BODY + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("body", [b"Content-Length: 26\r\n\r\n" + BODY, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("pause", ["none", "after-the-head", "in-the-body", "every-byte"])
def test_the_body_of_a_request_that_offers_an_upgrade_is_read_as_its_body(
    client: httpx.Client, body: bytes, pause: str
) -> None:
    """As clients that speak HTTP/2 too send it; whatever arrives when, what follows is the next request.

    The service has time: on a busy machine single bytes take it.
    """
    request = HEAD + UPGRADE + body
    cuts = {"none": [], "after-the-head": [request.index(b"\r\n\r\n") + 4], "in-the-body": [len(request) - 9]}
    ends = cuts.get(pause, range(1, len(request)))
    with connection(client) as upgrading:
        for begin, end in zip([0, *ends], [*ends, len(request)], strict=True):
            upgrading.sendall(request[begin:end])
            time.sleep(0.1 if pause in cuts else 0.0005)
        upgrading.sendall(LIVE[:-2] + b"Connection: close\r\n\r\n")
        answers = rest(upgrading)
    assert answers.count(b"HTTP/1.1 200") == answers.count(b"HTTP/1.1 ") == 2
    assert b'"rating"' in answers.partition(b'"live"')[0]


def test_what_is_in_the_body_of_a_request_that_offers_an_upgrade_is_no_request(service: httpx.Client) -> None:
    with connection(service) as smuggling:
        smuggling.sendall(HEAD + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(LIVE) + LIVE)
        answer = smuggling.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 422")
        smuggling.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 " not in (answer + rest(smuggling))[8:]


def test_pipelined_requests_are_all_answered_wherever_the_segments_end(service: httpx.Client) -> None:
    """Also where what arrives together is more than a head may be, and its end is in the middle of one."""
    requests = b"".join(
        b"PUT /users/p%d/ratings/3 HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\nContent-Type: application/json\r\n"
        b'Content-Length: 13\r\n\r\n{"rating": 3}' % (number, b"x" * 400)
        for number in range(300)
    )
    assert len(requests) > 2 * MAX_HEAD
    with connection(service) as pipelining:
        for cut in (len(requests) - 40, len(requests)):
            pipelining.sendall(requests[:cut] if cut < len(requests) else requests[-40:])
            time.sleep(0.1)
        received = b""
        while received.count(b'"known_item"') < 300:
            received += pipelining.recv(65_536)
    assert received.count(b"HTTP/1.1 200") == received.count(b"HTTP/1.1 ") == 300


def test_large_bodies_of_one_connection_are_all_read_wherever_the_segments_end(service: httpx.Client) -> None:
    """The head of a request and the begin of its body come with the end of the body before."""
    body = BODY[:-1] + b" " * (3 * MAX_HEAD) + b"}"
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connection(service) as keeping:
        for part in (request[:-9], request[-9:], request[:-9], request[-9:]):
            keeping.sendall(part)
            time.sleep(0.1)
        received = b""
        while received.count(b'"model_version"') < 2:
            received += keeping.recv(65_536)
    assert received.count(b"HTTP/1.1 200") == received.count(b"HTTP/1.1 ") == 2


def test_an_answer_comes_before_the_refusal_of_what_follows_its_request(service: httpx.Client) -> None:
    with connection(service) as broken:
        broken.sendall(PREDICT + b"GARBAGE\r\n")
        answers = rest(broken)
    assert answers.startswith(b"HTTP/1.1 200")
    assert is_problem(answers, 400)


def test_small_pipelined_requests_are_not_taken_all_at_once(
    service: httpx.Client, running: tuple[httpx.Client, psutil.Process]
) -> None:
    """Each takes a hundred times its bytes, and nobody has shown a key: read one by one they take little memory."""
    client, process = running
    before = process.memory_info().rss
    with ExitStack() as held:
        for _ in range(40):
            flood = held.enter_context(connection(client))
            flood.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            flood.settimeout(0.05)
            with suppress(TimeoutError):
                flood.sendall(b"GET / HTTP/1.1\r\n\r\n" * 50_000)
        assert process.memory_info().rss - before < 50 << 20


@pytest.mark.parametrize("line", [b"a" * 1_000, b"X-%d: " + b"b" * 1_000 + b"\r\n", b"X-%d: \r\n"])
def test_a_head_without_end_is_refused_before_it_fills_the_memory(service: httpx.Client, line: bytes) -> None:
    sent, answer = without_end(service, b"GET / HTTP/1.1\r\n" if b"%d" in line else b"GET /", line)
    assert sent < 10 * MAX_HEAD
    assert not answer or is_problem(answer, 431) or is_problem(answer, 408)


@pytest.mark.parametrize(
    "head", [b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_a_head_that_arrives_at_once_may_be_as_long_as_one_in_pieces(service: httpx.Client, head: bytes) -> None:
    """The answer to a longer one may be lost with the connection, if some of it was on its way."""
    with connection(service) as allowed:
        allowed.sendall(head % (b"x" * (MAX_HEAD - 100)))
        assert allowed.recv(65_536).startswith((b"HTTP/1.1 200", b"HTTP/1.1 404"))
    with connection(service) as refused:
        refused.sendall(head % (b"x" * MAX_HEAD))
        answer = rest(refused)
        assert not answer or is_problem(answer, 431)


@pytest.mark.parametrize("target", [b"/predict", b"/health/live", b"/users/nobody"])
@pytest.mark.parametrize(
    ("begun", "line"),
    [
        (b"0\r\n", b"a: " + b"b" * 200 + b"\r\n"),
        (b"0\r\na: ", b"b" * 1_000),
        (b"1;", b"extension=" + b"x" * 200 + b";"),
        (b"000000000", b"0" * 7),
    ],
    ids=["trailers", "trailer", "chunk-extension", "chunk-length"],
)
def test_what_stands_around_a_body_without_end_is_refused_before_it_fills_the_memory(
    service: httpx.Client, target: bytes, begun: bytes, line: bytes
) -> None:
    """Most of it is sent before any key is looked at."""
    method = b"DELETE" if target == b"/users/nobody" else b"POST"
    head = method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent, answer = without_end(service, head + begun, line)
    assert sent < 10 * MAX_HEAD
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]  # one that needs no body may come first
    assert set(statuses[:-1]) <= {b"200", b"405"}
    assert set(statuses[-1:]) <= {b"200", b"405", b"408", b"431"}  # the last may be lost with the connection


def without_end(client: httpx.Client, begun: bytes, line: bytes) -> tuple[int, bytes]:
    """Send the line again and again until there is an answer or the end of the connection."""
    with connection(client) as endless:
        endless.sendall(begun)
        sent, answer = 0, b""
        endless.settimeout(0.01)
        while b"connection: close" not in answer and sent < 100 * MAX_HEAD:
            try:
                for _ in range(20):
                    endless.sendall(line.replace(b"%d", str(sent).encode()))
                    sent += len(line)
                answer += endless.recv(65_536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        endless.settimeout(PATIENCE)
        return sent, answer + rest(endless)


def test_a_body_that_is_said_to_be_too_large_is_refused_before_it_is_sent(service: httpx.Client) -> None:
    with connection(service) as large:
        large.sendall(HEAD + b"Content-Length: 300001\r\n\r\n")
        assert large.recv(65_536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("sent", [HEAD, HEAD + b"Content-Length: 26\r\n\r\n{", PREDICT], ids=["head", "body", "answer"])
def test_a_client_that_vanishes_with_a_reset_harms_nobody(service: httpx.Client, sent: bytes) -> None:
    for _ in range(20):
        with connection(service) as vanishing:
            vanishing.sendall(sent)
            vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_client_that_closes_its_sending_side_is_still_answered(service: httpx.Client) -> None:
    with connection(service) as half:
        half.sendall(PREDICT)
        half.shutdown(socket.SHUT_WR)
        assert half.recv(65_536).startswith(b"HTTP/1.1 200")


def test_a_flood_of_pipelined_requests_is_answered_in_order_or_given_up(service: httpx.Client) -> None:
    with connection(service) as flood:
        flood.settimeout(0.5)
        send_until_stuck(flood, LIVE * 1_000)
        flood.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_connections_beyond_the_bound_are_refused_and_taken_again_later(start: Start, checkpoints: Path) -> None:
    with start(checkpoints, max_connections="5", idle_seconds="60") as (client, _), ExitStack() as held:
        held_ones = [held.enter_context(connection(client)) for _ in range(4)]  # and the client's own
        with connection(client) as beyond:
            assert is_problem(rest(beyond), 503)
        assert predict(client) > 0
        held_ones.pop().close()
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline
            with connection(client) as again:
                again.sendall(LIVE)
                if again.recv(65_536).startswith(b"HTTP/1.1 200"):
                    break


def test_a_thousand_clients_that_send_a_byte_now_and_then_hold_nobody_up(service: httpx.Client) -> None:
    with ExitStack() as held, selectors.DefaultSelector() as alive:
        for _ in range(1_000 if can_open(2_100) else 300):
            opened = held.enter_context(connection(service))
            opened.setblocking(False)
            alive.register(opened, selectors.EVENT_READ)
        at, deadline = 0, time.monotonic() + PATIENCE
        while alive.get_map():
            assert time.monotonic() < deadline
            for key in list(alive.get_map().values()):
                try:
                    key.fileobj.send(HEAD[at % len(HEAD) :][:1])  # type: ignore[union-attr]
                except OSError:
                    alive.unregister(key.fileobj)
            at += 1
            assert predict(service) > 0


def can_open(files: int) -> bool:
    """Whether this process may have so many files open, now that it is asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
    return hard >= files


IDLE_CLIENT = """
import resource, socket, sys
port, count = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(count)]
print(len(held), flush=True)
input()
"""


@pytest.mark.slow
def test_ten_thousand_idle_connections_hold_nobody_up(start: Start, checkpoints: Path) -> None:
    count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500)
    assert count >= 3_000, "the hard limit of open files is too low to show anything"
    with start(checkpoints, idle_seconds="600") as (client, process):
        service = psutil.Process(process.pid)
        before = service.memory_info().rss
        command = [sys.executable, "-c", IDLE_CLIENT, str(client.base_url.port), str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as idle:
            assert idle.stdout is not None
            assert idle.stdout.readline() == f"{count}\n"
            for _ in range(50):
                assert client.get("/health/live").status_code == 200
                assert predict(client) > 0
            await_files(service, lambda files: files > count)
            assert (service.memory_info().rss - before) / count < 20_000  # bytes a connection
            idle.communicate("")
        await_files(service, lambda files: files < 100)


def await_files(process: psutil.Process, enough: Callable[[int], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not enough(process.num_fds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
