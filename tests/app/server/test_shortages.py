"""A service that runs out of something of the machine: room for temporary files, open files, time for one user."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from app.server.launcher import OTHER_FILES
from models.registry.directory import activate, current_version, publish
from tests.support.drafts import random_draft
from tests.support.service import Service, environment, serving
from tests.support.soak import workers_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FILES = 400  # that a process may open


def small_folder(folder: Path, megabytes: int) -> list[str]:
    """A command that replaces itself by another one, for which `folder` is a small disk of its own."""
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs "{folder}" && exec "$@"'
    return ["unshare", "-rm", "sh", "-c", script, "sh", "env", f"TMPDIR={folder}"]


def test_workers_live_on_when_the_folder_of_temporary_files_is_full(checkpoints: Path, tmp_path: Path) -> None:
    """What they share has its room from the start; metrics that get none, as those of a new worker, are missing."""
    folder, store = tmp_path / "tmp", tmp_path / "ratings.sqlite"
    folder.mkdir()
    with (
        serving(checkpoints, "--workers", "2", within=small_folder(folder, 16), store=f"sqlite:///{store}") as service,
        httpx.Client(base_url=service.url, timeout=100) as client,
    ):
        parent = psutil.Process(service.process.pid)
        inside = Path(f"/proc/{parent.pid}/root") / folder.relative_to("/")
        fill(inside / "ballast")
        before = {worker.pid for worker in workers_of(parent)}
        users = [f"u{number}" for number in range(3_000)]  # each is marked somewhere in what is shared
        bulk = {"users": users, "items": ["1"] * 3_000, "ratings": [3] * 3_000}
        client.post("/ratings", json=bulk).raise_for_status()
        everything = [
            client.request(method, path).status_code
            for method in ("GET", "DELETE", "POST")
            for path in ("/metrics", "/items", "/items/x/similar", "/users/u1/top?n=0", "/predict", "/nowhere")
        ]
        assert set(everything) <= {200, 404, 405, 422}
        assert {worker.pid for worker in workers_of(parent)} == before
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len({worker.pid for worker in workers_of(parent)} - before) == 1, service.process)
        wait_until(lambda: all_answer(service), service.process, log=service.log)
        assert "ratecast_requests_total" in client.get("/metrics").text


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as stream:
        for size in (1 << 20, 4096):
            try:
                while stream.write(bytes(size)):
                    pass
            except OSError:
                continue


def all_answer(service: Service) -> bool:
    """Whether new connections, which go to any worker, are answered."""
    try:
        answers = [httpx.get(f"{service.url}/users/u1/top?n=1", timeout=30) for _ in range(20)]
    except httpx.TransportError:
        return False
    return all(answer.status_code == 200 for answer in answers)


def test_workers_that_cannot_share_a_folder_are_not_started(checkpoints: Path, tmp_path: Path) -> None:
    within = small_folder(tmp_path, 4)
    done = subprocess.run(
        [*within, sys.executable, "-m", "app", "--checkpoints", str(checkpoints), "--port", "0", "--workers", "2"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "ratecast: cannot use the folder of temporary files (No space left on device); TMPDIR names another\n"
    )


def test_at_the_limit_of_open_files_connections_are_answered_or_refused_and_versions_change(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    first = publish(directory, random_draft(seed=0)).version
    second = publish(directory, random_draft(seed=1)).version
    with serving(directory, within=["prlimit", f"--nofile={FILES}:{FILES}"], max_seconds="60") as service:
        known = httpx.Client(base_url=service.url, timeout=100)
        assert known.get("/health/ready").json()["model_version"] == second
        with crowd(service.port, 3 * FILES) as answers:
            assert answers.total() == 3 * FILES
            assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
            assert answers[b"HTTP/1.1 200"] >= FILES - 2 * OTHER_FILES
            activate(directory, first)
            wait_until(lambda: known.get("/health/ready").json()["model_version"] == first, service.process)
            known.put("/users/u/ratings/1", json={"rating": 3}).raise_for_status()
            known.post(f"/models/{second}/activate").raise_for_status()
            assert current_version(directory) == second
        known.close()
        assert "Too many open files" not in service.log.read_text()
        assert all_answer(service)


@contextmanager
def crowd(port: int, number: int) -> Iterator[Counter[bytes]]:
    """So many connections, each of which asks once and stays open: how each was answered."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections = []
    try:
        answers: Counter[bytes] = Counter()
        for _ in range(number):
            connections.append(socket.create_connection(("127.0.0.1", port), timeout=60))
            connections[-1].sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in connections:
            answers[connection.recv(1 << 16)[:12]] += 1
        yield answers
    finally:
        for connection in connections:
            connection.close()


def test_too_few_open_files_are_refused_at_the_start(checkpoints: Path) -> None:
    command = ["prlimit", "--nofile=100:100", sys.executable, "-m", "app", "--checkpoints", str(checkpoints)]
    done = subprocess.run(
        [*command, "--port", "0"], env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "ratecast: a process may open 100 files, and needs 256: see `ulimit -n`\n"


def test_a_copy_of_the_versions_is_served_whatever_happens_to_the_files(tmp_path: Path) -> None:
    """A mapped file that another program makes shorter would end the worker that reads it."""
    directory = tmp_path / "checkpoints"
    version = publish(directory, random_draft(seed=0)).version
    with (
        serving(f"file://{directory}", checkpoint_cache=str(tmp_path / "copy"), recent_lists="0") as service,
        httpx.Client(base_url=service.url, timeout=100) as client,
    ):
        before = [client.get(f"/users/{user}/top").json() for user in range(100)]
        for file in (directory / version).rglob("*.*"):
            os.truncate(file, 0)
        assert [client.get(f"/users/{user}/top").json() for user in range(100)] == before


def test_a_user_with_very_many_ratings_takes_neither_the_store_nor_the_time_of_others(
    checkpoints: Path, tmp_path: Path
) -> None:
    store = tmp_path / "ratings.sqlite"
    with serving(checkpoints, store=f"sqlite:///{store}", max_seconds="100") as service:
        with httpx.Client(base_url=service.url, timeout=100) as client:
            client.put("/users/many/ratings/1", json={"rating": 3}).raise_for_status()
        with closing(sqlite3.connect(store)) as database:
            database.execute(
                "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 800000) "
                "INSERT INTO ratings SELECT 'many', i, 3, 7 FROM n"
            )
            database.commit()
        process, answers, over = psutil.Process(service.process.pid), Counter(), threading.Event()
        memory = process.memory_info().rss

        def read(path: str) -> None:
            with httpx.Client(base_url=service.url, timeout=100) as client:
                while not over.is_set():
                    client.put("/users/many/ratings/1", json={"rating": 3})  # so that it is read again
                    answers[path, client.get(path).status_code] += 1

        paths = ["/users/many/ratings", "/users/many/top", "/users/many/because/1", "/users/many/top?n=3"]
        readers = [threading.Thread(target=read, args=[path]) for path in paths]
        for reader in readers:
            reader.start()
        with httpx.Client(base_url=service.url, timeout=100) as client:
            tries = [tries_until_stored(client, f"u{number}") for number in range(30)]
        over.set()
        for reader in readers:
            reader.join()
        assert max(tries) <= 5, tries  # 1 on an idle machine
        assert {status for _, status in answers} <= {200, 422, 503}
        assert process.memory_info().rss - memory < 300 << 20
        assert "is unreachable" not in service.log.read_text()


def tries_until_stored(client: httpx.Client, user: str) -> int:
    """How often a rating had to be sent: on a busy machine a change may take longer than its time."""
    for number in range(1, 20):
        if client.put(f"/users/{user}/ratings/1", json={"rating": 3}).status_code == 200:
            return number
    return 20
