"""Schemathesis asks a real service for what its OpenAPI document offers, and for what it does not.

Quickly a few random requests of each operation, else more than 5,000 in all phases; the seed is fixed.
`schemathesis_hooks.py` says what no schema can say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint.writer import Draft
from models.mf import MatrixFactorization
from models.registry.directory import activate, publish
from tests.support import ROOT
from tests.support.drafts import write_held_out
from tests.support.service import Start

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
CLIENT, ADMIN = "client-key-0123456789", "admin-key-0123456789"


@pytest.fixture
def every_order(tmp_path: Path, make_draft: Callable[..., Draft]) -> Path:
    """Two versions of a model that can give every order."""
    draft = make_draft(0)
    tensors = dict(draft.model.tensors())
    tensors |= {"noise_variance": torch.tensor(0.5)}
    tensors |= {f"{kind}_variance": torch.rand(len(tensors[f"{kind}_bias"])) for kind in ("user", "item")}
    draft = replace(draft, model=MatrixFactorization(**tensors), write_report=write_report)
    first = publish(tmp_path, draft).version
    publish(tmp_path, draft)
    activate(tmp_path, first)
    return tmp_path


def write_report(path: Path) -> None:
    (path / "index.html").write_text("<!doctype html><title>Report</title>")
    passes = [{"number": 1, "figures": {"loss": 0.5}, "test_rmse": 0.9, "fit_seconds": 1.0}]
    (path / "history.json").write_text(json.dumps(passes))
    write_held_out(path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("phases", "cases"),
    [
        pytest.param({"fuzzing": 5}, 100, id="few"),
        pytest.param(
            {"examples": None, "coverage": None, "fuzzing": 150, "stateful": 80},
            5_000,
            id="many",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_case_meets_a_bug_or_an_answer_that_is_not_documented(
    start: Start, every_order: Path, tmp_path: Path, phases: dict[str, int | None], cases: int
) -> None:
    """`phases` are Schemathesis's, with the most cases of each operation; None where the document says how many."""
    configuration = tmp_path / CONFIGURATION.name
    most = (f"[phases.{phase}]\ngeneration.max-examples = {count}\n" for phase, count in phases.items() if count)
    configuration.write_text(CONFIGURATION.read_text("utf-8") + "\n" + "\n".join(most))
    settings = {"api_keys": CLIENT, "admin_keys": ADMIN, "max_body_bytes": "200000", "max_pairs": "1000"}
    with start(every_order, **settings) as (client, _):
        document = client.get("/openapi.json").json()
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", configuration, "run"]
        command += [f"{client.base_url}/openapi.json", "--header", f"Authorization: Bearer {ADMIN}", "--seed", "1"]
        command += ["--phases", ",".join(phases), "--continue-on-failure", "--generation-database", "none"]
        command += ["--report-ndjson-path", tmp_path / "report"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    answers = Counter(answers_in(tmp_path / "report"))
    assert answers.total() >= cases
    assert {phase for phase, _, _ in answers} == set(phases)
    wanted = {200} if "coverage" in phases else set(range(200, 500))
    assert {operation for _, operation, status in answers if status in wanted} >= set(operations(document))
    assert [status for _, _, status in answers if status >= 500] == []


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return kept | {"NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


def answers_in(report: Path) -> Iterator[tuple[str, str, int]]:
    """Phase, operation and status of every answer."""
    with report.open("rb") as lines:
        finished = filter(None, (json.loads(line).get("ScenarioFinished") for line in lines))
        for scenario in finished:
            cases = scenario["recorder"].get("cases", {})
            for number, exchange in scenario["recorder"].get("interactions", {}).items():
                case = cases[number]["value"]
                yield scenario["phase"], f"{case['method']} {case['path']}", exchange["response"]["status_code"]


def operations(document: dict[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        yield from (f"{method.upper()} {path}" for method in methods)
