"""`fit --track` on a real MLflow server, which is installed for this test alone."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support import ROOT
from tests.support.ports import held_port
from tests.support.waiting import wait_until
from training.data.synthetic import planted
from training.errors import ConfigError
from training.tracking import tracked

# The client, and what its server needs beyond what the tests have: a tenth of the size of the package `mlflow`.
PACKAGES = ("mlflow-skinny==3.17.2", "flask", "flask-cors", "graphene", "aiohttp")
OPTIONS = ("--split", "random:0.25", "--preset", "als", "--device", "cpu", "--json")


def test_where_mlflow_is_missing_the_error_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'ratecast\[track\]'"), tracked("mlflow", "als"):
        pass


def test_other_trackers_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes `mlflow` or `mlflow:URI`, not 'wandb'"), tracked("wandb:x", "als"):
        pass


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With MLflow, in a folder that is thrown away."""
    folder = tmp_path_factory.mktemp("mlflow")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(folder), *PACKAGES]
    subprocess.run(install, check=True, capture_output=True)
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"} | quiet


@pytest.fixture(scope="module")
def server(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    places = ("--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files"))
    with held_port() as port, (folder / "log").open("w") as log:
        url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host=127.0.0.1",
            f"--port={port}",
            "--workers=1",
            *places,
        ]
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as process:
            try:
                wait_until(lambda: is_up(url), process, log=folder / "log", seconds=600)
                yield url
            finally:
                os.killpg(process.pid, 15)


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def fit(folder: Path, environment: dict[str, str], ratings: Path, uri: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ratecast", "fit", "--data", str(ratings), *OPTIONS, "--out", str(folder / "out")]
    command += ["--track", f"mlflow:{uri}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def write(file: Path, rows: Any) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("user", "item", "rating"), *rows])
    return file


def runs(server: str) -> list[dict[str, Any]]:
    """The runs of all experiments, the latest first."""
    found = httpx.post(f"{server}/api/2.0/mlflow/experiments/search", json={"max_results": 10}).json()["experiments"]
    ids = [one["experiment_id"] for one in found if one["name"] == "ratecast"]
    answer = httpx.post(f"{server}/api/2.0/mlflow/runs/search", json={"experiment_ids": ids}).raise_for_status()
    return [
        {"status": run["info"]["status"], "id": run["info"]["run_id"], **named(run)} for run in answer.json()["runs"]
    ]


def named(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        kind: {one["key"]: one["value"] for one in run["data"].get(kind, ())} for kind in ("params", "metrics", "tags")
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fit_is_a_run_with_its_settings_figures_curve_and_report(
    environment: dict[str, str], server: str, tmp_path: Path
) -> None:
    users_N, items_N, ratings_N = planted(100, 60, 3_000, np.random.default_rng(0))
    done = fit(
        tmp_path, environment, write(tmp_path / "good.csv", zip(users_N, items_N, ratings_N, strict=True)), server
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    run, *others = runs(server)
    assert others == []
    assert run["status"] == "FINISHED"
    assert run["tags"].items() >= {"ratecast.outcome": "published", "ratecast.version": figures["version"]}.items()
    assert run["params"].items() >= {"preset": "als", "seed": "0", "factors": "31", "sweeps": "6"}.items()
    assert "relevance.factors" in run["params"]
    for name in ("rmse", "bias_rmse", "ndcg10", "train_ratings"):
        assert run["metrics"][name] == pytest.approx(figures[name])
    query = {"run_id": run["id"], "metric_key": "curve.test_rmse"}
    curve = httpx.get(f"{server}/api/2.0/mlflow/metrics/get-history", params=query).json()["metrics"]
    assert [point["step"] for point in curve] == [1, 2, 3, 4, 5, 6]
    listed = httpx.get(f"{server}/api/2.0/mlflow/artifacts/list", params={"run_id": run["id"], "path": "report"}).json()
    assert {file["path"] for file in listed["files"]} == {"report/index.html", "report/history.json"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fit_that_is_refused_or_fails_is_a_run_that_says_why(
    environment: dict[str, str], server: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = [(user, item, rng.integers(1, 6)) for user in range(40) for item in range(20)]
    refused = fit(tmp_path, environment, write(tmp_path / "noise.csv", rows), server)
    assert refused.returncode == 3, refused.stderr
    run, *_ = runs(server)
    assert (run["status"], run["tags"]["ratecast.outcome"]) == ("FINISHED", "refused")
    assert run["tags"]["ratecast.reason"] in refused.stderr
    failed = fit(tmp_path, environment, tmp_path / "none.csv", server)
    assert failed.returncode == 2
    run, *_ = runs(server)
    assert (run["status"], run["tags"]["ratecast.outcome"]) == ("FAILED", "failed")
    assert "none.csv" in run["tags"]["ratecast.reason"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_is_away_ends_the_job_before_the_fit(environment: dict[str, str], tmp_path: Path) -> None:
    with held_port() as port:
        away = fit(tmp_path, environment, write(tmp_path / "few.csv", [(1, 2, 3)]), f"http://127.0.0.1:{port}")
    assert away.returncode == 2
    assert away.stderr.splitlines()[-1].startswith(f"error: --track: MLflow at http://127.0.0.1:{port} cannot be used")
    assert "Traceback" not in away.stderr
