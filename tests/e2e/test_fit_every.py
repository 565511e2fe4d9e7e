"""A fit that is repeated, while its database goes and comes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.registry.directory import versions
from tests.support import ROOT
from tests.support.postgres import postgres
from tests.support.waiting import wait_until

SOON = 120.0  # seconds on a busy machine; a second on an idle one
TABLE = "CREATE TABLE given AS SELECT u AS user, i AS item, 1 + (u * i) % 5 AS rating"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ended", ["stopped", "killed"])
def test_it_says_that_the_database_is_away_and_goes_on_when_it_is_back(
    tmp_path: Path, postgres_url: str, ended: str
) -> None:
    out, log = tmp_path / "checkpoints", tmp_path / "log"
    with postgres() as server:
        with server.connect() as connection:
            connection.execute(f"{TABLE} FROM generate_series(1, 20) u, generate_series(1, 15) i")
        command = [sys.executable, "-m", "training", "fit", "--data", server.url, "--table", "given"]
        command += ["--preset", "bias", "--every", "1s", "--out", str(out), "--force"]
        with log.open("wb") as stderr, subprocess.Popen(command, cwd=ROOT, stderr=stderr) as process:
            try:
                wait_until(lambda: versions(out), process, log=log, seconds=SOON)
                server.stop() if ended == "stopped" else server.kill()
                wait_until(lambda: "error: postgresql" in log.read_text(), process, log=log, seconds=SOON)
                known = len(versions(out))
                wait_until(lambda: log.read_text().count("error: ") > 1, process, log=log, seconds=SOON)
                assert len(versions(out)) == known
                server.start()
                wait_until(lambda: len(versions(out)) > known, process, log=log, seconds=SOON)
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
    assert "Traceback" not in log.read_text()
