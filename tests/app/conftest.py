"""A published checkpoint with known tables, and the service as a process of its own that answers from it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch

from app.main import create_app
from app.settings import Settings
from models.checkpoint.files import ITEM_SCHEMA, USER_SCHEMA
from models.checkpoint.manifest import DataRecord, GateRecord, TrainerRecord
from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.fold_in_prior import FoldInPrior
from models.mf import MatrixFactorization
from models.registry.directory import load
from models.registry.publication import publish
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from tests.support.checkpoints import RULE

USERS, ITEMS, FACTORS, RATINGS = 300, 400, 12, 6_000
STRANGE_IDS = ["a/b", "a/top", "50%", "a b?c#d&e=f+g", "ünï·ço∂é", "..", '"', "'", "\\", "\n", "x\ty\n", "%2F", "top"]
PROBLEM_JSON = "application/problem+json"


def random_model(rng: np.random.Generator, users: int, items: int, factors: int) -> MatrixFactorization:
    """Tables whose predictions reach past a scale of 1 to 5 on both sides. Every item stands there twice."""

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0, 0.5, shape).astype(np.float32))

    q_IF, b_I = table(items + 1, factors), table(items + 1)
    q_IF[items // 2 : items] = q_IF[: items // 2]
    b_I[items // 2 : items] = b_I[: items // 2]
    return MatrixFactorization(torch.tensor(3.5), table(users + 1, factors), q_IF, table(users + 1), b_I)


def random_head(seed: int, users: int, items: int, factors: int) -> RelevanceHead:
    """Tables that order items otherwise than the predictions do."""
    rng = np.random.default_rng([seed, 1])
    tables = (rng.standard_normal((rows + 1, factors), dtype=np.float32) for rows in (users, items))
    return RelevanceHead(*map(torch.from_numpy, tables), rule=RULE)


def draft(seed: int, users: int = USERS, items: int = ITEMS, factors: int = FACTORS) -> Draft:
    """A model and a relevance head of random tables. Users are "1", "2", … and the strange ids; so are items."""
    rng = np.random.default_rng(seed)
    cells_N = rng.choice(users * items, min(RATINGS, users * items // 2), replace=False)
    ratings_N = rng.integers(1, 6, len(cells_N)).astype(np.float32)
    users_N, items_N = (cells_N // items).astype(np.int32), (cells_N % items).astype(np.int32)
    seen = TrainingRatings.from_ratings(users_N, items_N, ratings_N, users)
    item_ids = ids(items)
    catalogue = pa.Table.from_pydict(
        {
            "id": item_ids,
            "title": [None if row % 7 == 6 else f"Title {id_}" for row, id_ in enumerate(item_ids)],
            "year": [None if row % 5 == 4 else 1950 + row % 70 for row in range(items)],
            "genres": [["Drama", "Film-Noir"][: row % 3] for row in range(items)],
            "mean_rating": rng.uniform(1, 5, items).astype(np.float32).tolist(),
            "ratings": seen.counts(items).tolist(),
        },
        schema=ITEM_SCHEMA,
    )
    model = random_model(rng, users, items, factors)
    return Draft(
        model=model,
        users=pa.Table.from_pydict({"id": ids(users)}, schema=USER_SCHEMA),
        items=catalogue,
        seen=seen,
        prior=FoldInPrior.learn(model, seen),
        scale=(1.0, 5.0),
        trainer=TrainerRecord(
            name="random", preset="random", settings={}, seed=seed, device="cpu", threads=1, fit_seconds=0.0
        ),
        data=DataRecord(
            name="random",
            split="none",
            fingerprint="0",
            train_ratings=len(cells_N),
            test_ratings=0,
            duplicates=0,
            rating_mean=3.0,
            rating_deviation=1.4,
        ),
        gate=GateRecord(verdict="not measured"),
        metrics={"rmse": 1.5, "coverage90": None},
        write_report=lambda _: None,
        relevance=random_head(seed, users, items, factors + 4),
    )


def ids(count: int) -> list[str]:
    strange = STRANGE_IDS[: count // 20]
    return [str(number) for number in range(1, count - len(strange) + 1)] + strange


@pytest.fixture(scope="session")
def make_draft() -> Callable[..., Draft]:
    return draft


@pytest.fixture(scope="session")
def strange_ids() -> list[str]:
    return STRANGE_IDS


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one published checkpoint."""
    directory = tmp_path_factory.mktemp("checkpoints")
    publish(directory, draft(seed=0))
    return directory


@pytest.fixture(scope="session")
def loaded(checkpoints: Path) -> Checkpoint:
    """The same checkpoint, read offline."""
    return load(checkpoints)


Start = Callable[..., AbstractContextManager[tuple[httpx.Client, "subprocess.Popen[str]"]]]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Run `python -m app` on a free port until the block ends; gives a client of it and the process."""

    @contextmanager
    def running(directory: Path, *flags: str, **environment: str) -> Iterator[tuple[httpx.Client, object]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "app", "--checkpoints", str(directory), "--port", str(port), *flags]
        log = tmp_path_factory.mktemp("service") / "stderr"
        with (
            log.open("w") as stderr,
            subprocess.Popen(command, stderr=stderr, env=_environment(environment)) as process,
        ):
            process.log_file = log  # type: ignore[attr-defined]
            try:
                with httpx.Client(
                    base_url=f"http://127.0.0.1:{port}", timeout=30, event_hooks={"response": [check_documented]}
                ) as client:
                    _await_ready(client, process, log)
                    yield client, process
            finally:
                process.terminate()
                assert process.wait(30) == 0
                logged = log.read_text()
                assert "Traceback" not in logged
                assert '"exception"' not in logged

    return running


@pytest.fixture(scope="session")
def client(start: Start, checkpoints: Path) -> Iterator[httpx.Client]:
    """A client of a service with default limits that answers from `checkpoints`."""
    with start(checkpoints) as (client, _):
        yield client


def _environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RATECAST_")}
    kept["RATECAST_SHUTDOWN_PAUSE"] = "0"
    return kept | {f"RATECAST_{name.upper()}": value for name, value in settings.items()}


def _await_ready(client: httpx.Client, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(log.read_text())


OPERATIONS = [
    (method.upper(), re.compile(re.sub(r"\\{.*?\\}", "(?s:.+)", re.escape(path))), operation["responses"])
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method, operation in methods.items()
]


def check_documented(response: httpx.Response) -> None:
    """Every answer in the test suite has a status that the OpenAPI document names, and every error is a problem."""
    request = response.request
    for method, pattern, responses in OPERATIONS:
        if method == request.method and pattern.fullmatch(request.url.path):
            assert str(response.status_code) in responses
    if response.status_code >= 400:
        assert response.headers["content-type"] == PROBLEM_JSON
        problem = json.loads(response.read())
        assert problem["status"] == response.status_code
        assert {"type", "title", "detail"} <= problem.keys()
