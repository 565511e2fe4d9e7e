"""From a fit to answers with nothing but a URL between them: a store that is torn, killed and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.registry.directory import CURRENT, current_version, publish
from tests.support.checkpoints import small_draft
from tests.support.ftp import PASSWORD, FtpServer, serving
from tests.support.service import Start
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FtpServer]:
    with serving(tmp_path / "root") as server:
        yield server


def training(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def ready(client: httpx.Client) -> Any:
    return client.get("/health/ready").json()


@pytest.mark.slow
def test_what_is_fitted_into_a_store_is_served_from_it(start: Start, server: FtpServer, tmp_path: Path) -> None:
    data = tmp_path / "ratings.csv"
    data.write_text("user,item,rating\n" + "\n".join(f"{n % 5},{n % 7},{1 + n % 3}" for n in range(35)) + "\n")
    url = f"{server.url}/models"
    versions = []
    for seed in range(2):
        done = training("fit", "--data", data, "--preset", "bias", "--seed", seed, "--out", url, "--json")
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout.splitlines()[-1])
        assert PASSWORD not in done.stdout + done.stderr
        assert figures["checkpoint"] == f"{url.replace(f'ratecast:{PASSWORD}', '***')}/{figures['version']}"
        versions.append(figures["version"])
    with start(url, "--workers", "2", checkpoint_cache=str(tmp_path / "cache")) as (client, process):
        assert [model["version"] for model in client.get("/models").json()["models"]] == versions
        assert ready(client)["model_version"] == versions[1]
        assert client.post(f"/models/{versions[0]}/activate?force=true").status_code == 200
        assert current_version(server.directory / "models") == versions[0]
        assert client.post("/models/nowhere/activate").status_code == 404
        assert training("activate", versions[1], "--force", "--out", url).returncode == 0
        wait_until(lambda: ready(client)["model_version"] == versions[1], process)
        back = training("rollback", "--force", "--out", url)
        assert back.stdout == f"{versions[0]} is current instead of {versions[1]}\n"
        wait_until(lambda: ready(client)["model_version"] == versions[0], process)


@pytest.mark.slow
def test_a_torn_version_and_a_dead_store_are_said_and_change_nothing(
    start: Start, server: FtpServer, tmp_path: Path
) -> None:
    first = publish(server.directory, small_draft()).version
    with start(server.url, checkpoint_cache=str(tmp_path / "cache")) as (client, process):
        torn = publish(server.directory, small_draft(), activate=False).version
        (server.directory / torn / "weights.safetensors").write_bytes(b"torn")
        (server.directory / CURRENT).write_text(torn)
        wait_until(lambda: ready(client)["failed_load"] is not None, process)
        assert ready(client)["failed_load"]["version"] == torn
        assert "weights.safetensors" in ready(client)["failed_load"]["reason"]
        assert ready(client)["model_version"] == first
        assert client.post(f"/models/{torn}/activate").status_code == 409
        whole = publish(server.directory, small_draft()).version
        wait_until(lambda: ready(client)["model_version"] == whole, process)
        assert ready(client)["failed_load"] is None
        server.kill()
        wait_until(lambda: ready(client)["failed_load"] is not None, process)
        assert ready(client)["failed_load"]["version"] is None
        assert client.post("/predict", json={"user": "u0", "item": "i2"}).json()["model_version"] == whole
        refused = client.post(f"/models/{first}/activate")
        assert (refused.status_code, refused.json()["type"]) == (
            503,
            "urn:ratecast:problem:store-of-models-unavailable",
        )
        assert [model["version"] for model in client.get("/models").json()["models"]][-1] == whole
        server.start()
        wait_until(lambda: ready(client)["failed_load"] is None, process)
        assert PASSWORD not in process.log_file.read_text() + client.get("/health/ready").text + refused.text
