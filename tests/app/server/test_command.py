"""`python -m app`: what it refuses, in one line and with exit code 2, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.__main__ import main
from app.options import OPTIONS
from app.server import launcher
from app.settings import Settings
from models.checkpoint.writer import Draft
from models.registry.directory import current_version, publish

pytestmark = pytest.mark.usefixtures("restored_process")


def test_invalid_settings_are_named_all_at_once(
    refusal: Callable[..., str], checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECAST_MAX_PAIRS", "many")
    line = refusal("--checkpoints", str(checkpoints), "--device", "gpu")
    assert "RATECAST_DEVICE" in line
    assert "RATECAST_MAX_PAIRS" in line


def test_devices_of_two_kinds_end_the_start_with_one_line(refusal: Callable[..., str], checkpoints: Path) -> None:
    line = refusal("--checkpoints", str(checkpoints), "--device", "cpu,cuda:0")
    assert line.startswith("ratecast: RATECAST_DEVICE: ")


def test_a_device_that_is_not_there(refusal: Callable[..., str], checkpoints: Path) -> None:
    assert "cuda:99" in refusal("--checkpoints", str(checkpoints), "--device", "cuda:99")


def test_a_start_without_a_checkpoint_names_the_command_that_makes_one(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    line = refusal("--checkpoints", str(tmp_path))
    assert f"ratecast fit --data ml-100k --split random:0.1 --preset bayes --out {tmp_path}" in line


def test_a_port_in_use_ends_the_start_with_one_line(refusal: Callable[..., str], checkpoints: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("--checkpoints", str(checkpoints), "--port", port)
    assert f"port {port}: Address already in use; choose another one with --port" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_here(refusal: Callable[..., str], checkpoints: Path, host: str) -> None:
    assert host in refusal("--checkpoints", str(checkpoints), "--host", host)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_checkpoint_ends_the_process_with_one_line(
    refusal: Callable[..., str], tmp_path: Path, make_draft: Callable[..., Draft], workers: str
) -> None:
    weights = tmp_path / publish(tmp_path, make_draft(0)).version / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert "weights.safetensors" in refusal("--checkpoints", str(tmp_path), "--workers", workers)


def test_a_split_of_a_version_that_cannot_be_served_ends_the_start_with_one_line(
    refusal: Callable[..., str], tmp_path: Path, make_draft: Callable[..., Draft]
) -> None:
    version, missing = publish(tmp_path, make_draft(0)).version, "20200101T000000Z-none-000000"
    assert refusal("--checkpoints", str(tmp_path), split="nonsense").startswith("ratecast: RATECAST_SPLIT: ")
    assert missing in refusal("--checkpoints", str(tmp_path), split=f"{missing} 0.1")
    line = refusal("--checkpoints", str(tmp_path), split=f"{version} 0.1", pinned_version=version)
    assert "RATECAST_SPLIT names the pinned version" in line


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/models", "s3fs"), ("gs://bucket/models", "gcsfs")])
def test_a_url_that_needs_another_package_says_which(refusal: Callable[..., str], url: str, package: str) -> None:
    assert package in refusal("--checkpoints", url)


@pytest.mark.slow
def test_a_worker_that_cannot_start_ends_the_service_with_exit_code_3(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "worker_app", _broken)
    with pytest.raises(SystemExit, check=lambda error: error.code == 3):
        main(["--checkpoints", str(checkpoints), "--workers", "2", "--port", "0"])


def _broken(*_: object) -> None:
    raise SystemExit(3)


@pytest.mark.slow
def test_workers_take_settings_hide_their_server_and_end_when_told(start, checkpoints: Path) -> None:
    bounds = {"max_body_bytes": "200", "max_pairs": "2", "max_list": "3", "max_id_length": "4"}
    with start(checkpoints, "--workers", "2", log_format="text", **bounds) as (client, process):
        assert "server" not in client.get("/health/live").headers
        for users, status in (["1"] * 2, 200), (["1"] * 3, 422), (["1"] * 100, 413), (["12345"], 422):
            answer = client.post("/predict", json={"users": users, "items": ["1"] * len(users)})
            assert answer.status_code == status
        assert [client.get(f"/users/1/top?n={n}").status_code for n in (3, 4)] == [200, 422]
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        with pytest.raises(httpx.ConnectError):
            httpx.get(client.base_url.join("/health/live"))


def test_help_is_complete_and_imports_nothing_slow() -> None:
    code = (
        "import sys, app.__main__ as program; program.main(['--help']); sys.stderr.write(str('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == "False"
    text = " ".join(done.stdout.split())
    for name in OPTIONS:
        assert f"--{name} " in text
        assert f"{Settings.model_fields[name].description} (RATECAST_{name.upper()})" in text


def test_a_check_says_what_would_be_served_and_ends(
    checkpoints: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECAST_API_KEYS", "a" * 16)
    flags = ("--checkpoints", str(checkpoints), "--port", "0", "--device", "cpu", "--workers", "3", "--check")
    main(flags)
    shown = capsys.readouterr()
    main([*flags, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer.items() >= {"version": current_version(checkpoints), "device": "cpu", "workers": 3}.items()
    assert (answer["users"], answer["api_keys"], answer["admin_keys"]) == (300, 1, 0)
    assert shown.err == ""
    assert [line.split()[0] for line in shown.out.splitlines()] == list(answer)


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        (["--wrokers", "2"], "Did you mean '--workers'?"),
        (["--json"], "--json goes with --check"),
        (["more"], "unexpected extra argument"),
        (["--port"], "requires an argument"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_usage_is_one_line_that_says_what_to_do(refusal: Callable[..., str], flags: list[str], remedy: str) -> None:
    line = refusal(*flags)
    assert line.startswith("ratecast: ")
    assert remedy in line


def test_a_variable_that_is_nearly_a_setting_is_told_of(
    checkpoints: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECAST_WORKRES", "2")
    monkeypatch.setenv("RATECAST_CACHE", "/cache")
    main(["--checkpoints", str(checkpoints), "--port", "0", "--check"])
    assert capsys.readouterr().err == "ratecast: RATECAST_WORKRES is not a setting: did you mean RATECAST_WORKERS?\n"
