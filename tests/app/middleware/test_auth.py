from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.main import create_app
from app.middleware.access import ApiKeys
from app.settings import ConfigurationError, Settings
from tests.support.asgi import Caller, calling

OLD, NEW = "old-key-0123456789", "new-key-0123456789"
PAIR, JSON = b'{"user": "1", "item": "2"}', ("content-type", "application/json")


@pytest.fixture(scope="module")
def locked(checkpoints: Path) -> Iterator[Caller]:
    """A service that asks for one of two keys."""
    with calling(create_app(Settings(checkpoints=checkpoints, api_keys=SecretStr(f"{OLD}, {NEW}")))) as call:
        yield call


@pytest.mark.parametrize("key", [OLD, NEW])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_every_configured_key_is_accepted(locked: Caller, key: str, scheme: str) -> None:
    assert locked("POST", "/predict", PAIR, (JSON, ("authorization", f"{scheme} {key}"))).status == 200
    assert locked("GET", "/models/current", b"", (("authorization", f"{scheme} {key}"),)).status == 200


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", f"Basic {OLD}", OLD, f"Bearer {OLD[:-1]}", f"Bearer {OLD}x", f"Bearer {OLD},{NEW}"],
)
def test_no_or_another_key_is_a_401_that_repeats_nothing(locked: Caller, given: str | None) -> None:
    headers = (JSON,) if given is None else (JSON, ("authorization", given))
    for method, path in (("POST", "/predict"), ("GET", "/users/1/top"), ("GET", "/metrics"), ("GET", "/nowhere")):
        answer = locked(method, path, PAIR, headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert OLD[:8].encode() not in answer.body


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json", "/docs"])
def test_what_tells_nothing_needs_no_key(locked: Caller, path: str) -> None:
    assert locked("GET", path).status == 200


def test_without_configured_keys_everybody_may_ask() -> None:
    assert ApiKeys([]).principal(None) is not None
    assert ApiKeys([OLD]).principal(None) is None


def test_keys_come_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{NEW}\n\n")
    assert Settings(api_keys=SecretStr(OLD), api_keys_file=file).accepted_keys() == [OLD, NEW]
    assert OLD not in repr(Settings(api_keys=SecretStr(OLD)))


@pytest.mark.parametrize("others", ["", OLD])
def test_a_file_without_keys_is_refused_rather_than_open_to_all(tmp_path: Path, others: str) -> None:
    (tmp_path / "keys").write_text("\n")
    with pytest.raises(ConfigurationError, match="keys has no key"):
        Settings(api_keys=SecretStr(others), api_keys_file=tmp_path / "keys").accepted_keys()


@pytest.mark.parametrize("given", [",", " ", " , \n"])
def test_a_variable_without_keys_is_refused_rather_than_open_to_all(given: str) -> None:
    with pytest.raises(ConfigurationError, match="RATECAST_API_KEYS has no key"):
        Settings(api_keys=SecretStr(given)).accepted_keys()


def test_a_file_that_is_no_text_is_refused_without_a_byte_of_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigurationError, match=r"keys is not text in UTF-8$") as caught:
        Settings(api_keys_file=tmp_path / "keys").accepted_keys()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("setting", [{"api_keys": "short"}, {"api_keys_file": "/nowhere/keys"}])
def test_keys_that_cannot_be_used_end_the_start_with_one_line(
    refusal: Callable[..., str], checkpoints: Path, setting: dict[str, str]
) -> None:
    assert "short" not in refusal("--checkpoints", str(checkpoints), "--port", "0", **setting)
