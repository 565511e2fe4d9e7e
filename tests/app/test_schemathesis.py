"""Schemathesis asks a real service for what its OpenAPI document offers, and for what it does not.

More than 5,000 cases in all phases; the seed is fixed. `schemathesis.toml` says what is not checked, and why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from models.lifecycle import activate
from models.mf import MatrixFactorization
from models.publication import Draft, publish

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
CLIENT, ADMIN = "client-key-0123456789", "admin-key-0123456789"


@pytest.fixture
def every_order(tmp_path: Path, make_draft: Callable[..., Draft]) -> Path:
    """Two versions of a model that can give every order."""
    draft = make_draft(0)
    tensors = dict(draft.model.tensors())
    tensors |= {"noise_variance": torch.tensor(0.5)}
    tensors |= {f"{kind}_variance": torch.rand(len(tensors[f"{kind}_bias"])) for kind in ("user", "item")}
    draft = replace(draft, model=MatrixFactorization(**tensors))
    first = publish(tmp_path, draft).version
    publish(tmp_path, draft)
    activate(tmp_path, first)
    return tmp_path


@pytest.mark.timeout(400)
def test_no_case_meets_a_bug_or_an_answer_that_is_not_documented(
    start: Callable[..., AbstractContextManager[tuple[httpx.Client, object]]], every_order: Path, tmp_path: Path
) -> None:
    settings = {"api_keys": CLIENT, "admin_keys": ADMIN, "max_body_bytes": "200000", "max_pairs": "1000"}
    with start(every_order, **settings) as (client, _):
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION, "run"]
        command += [f"{client.base_url}/openapi.json", "--header", f"Authorization: Bearer {ADMIN}"]
        command += ["--phases", "examples,coverage,fuzzing,stateful", "--seed", "1"]
        command += ["--continue-on-failure", "--generation-database", "none"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean())
        log = client.get("/metrics", headers={"authorization": f"Bearer {ADMIN}"}).text
    assert done.returncode == 0, done.stdout
    assert "Stateful (not applicable)" not in done.stdout
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) >= 5_000, found[0]
    assert 'status="500"' not in log


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | {"NO_COLOR": "1"}
