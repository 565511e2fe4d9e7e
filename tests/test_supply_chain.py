"""Locks, image and containers are what `docs/supply-chain.md` and `docs/security.md` say."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)", re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def pins(name: str) -> dict[str, str]:
    return {canonicalize_name(found[1]): found[2] for found in PIN.finditer((ROOT / name).read_text("utf-8"))}


@pytest.mark.parametrize("lock", ["serve", "test"])
def test_every_locked_version_has_hashes(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.lock").read_text("utf-8")
    found = list(PIN.finditer(text))
    assert len(found) > 30
    assert [pin[1] for pin in found if not pin[3]] == []
    left = PIN.sub("", text)
    assert [line for line in left.splitlines() if line and not line.startswith("#")] == []


@pytest.mark.parametrize(("lock", "extras"), [("serve", ("train", "serve")), ("test", ("train", "serve", "test"))])
def test_a_lock_has_all_that_is_asked_for_in_the_range_asked_for(lock: str, extras: tuple[str, ...]) -> None:
    locked = pins(f"requirements/{lock}.lock")
    wanted = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, wanted):
        if requirement.name != "torch" and (requirement.marker is None or requirement.marker.evaluate()):
            assert locked[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("lock", ["serve", "test"])
def test_locks_and_constraints_agree(lock: str) -> None:
    constraints = pins("constraints.txt")
    assert pins(f"requirements/{lock}.lock").items() <= constraints.items()
    assert constraints["torch"].startswith("2.13.")


def test_no_lock_names_a_package_index() -> None:
    for file in ("constraints.txt", "requirements/serve.lock", "requirements/test.lock"):
        assert not re.search(r"://|--(index|extra|find|trusted)", (ROOT / file).read_text("utf-8"))


@pytest.mark.parametrize("name", COMPOSE)
def test_containers_can_do_little(name: str) -> None:
    service: dict[str, Any] = COMPOSE[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert service["pids_limit"] == 512
    assert "privileged" not in service
    assert "cap_add" not in service


def test_only_the_proxy_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in COMPOSE.items() if "ports" in service}
    assert published == {"proxy": ["127.0.0.1:${PORT:-8000}:8000"]}


def test_replicas_read_their_models_have_bounds_and_share_one_store() -> None:
    api = COMPOSE["api"]
    assert api["deploy"] == {"replicas": "${REPLICAS:-1}"}
    assert api["environment"]["RATECAST_STORE"].startswith("postgresql://")
    assert api["volumes"] == ["checkpoints:/checkpoints:${CHECKPOINTS_MODE:-ro}"]
    assert api["mem_limit"]


def test_the_image_runs_as_nobody_is_checked_and_says_what_is_in_it() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER ratecast$", final, re.MULTILINE)
    assert "useradd --uid 10001" in final
    assert re.search(r"^HEALTHCHECK .*\\\n.*health/ready", final, re.MULTILINE)
    assert "COPY --from=build /sbom.cdx.json /usr/share/doc/ratecast/sbom.cdx.json" in final
    assert "pip install --require-hashes --no-deps --requirement requirements/serve.lock" in DOCKERFILE
    assert "pip install" not in final


def test_every_suppression_of_bandit_says_which_rule() -> None:
    files = [file for package in ("app", "models", "training") for file in (ROOT / package).rglob("*.py")]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines() if "nosec" in line]
    assert lines
    assert [line for line in lines if not re.search(r"# nosec B\d+$", line)] == []


def test_the_tests_that_the_promises_name_exist() -> None:
    text = (ROOT / "docs/security.md").read_text("utf-8")
    names = re.findall(r"`((?:\w+/)*test_\w+\.py)`", text)
    assert len(set(names)) > 10
    assert [name for name in names if not (ROOT / "tests" / name).is_file()] == []
