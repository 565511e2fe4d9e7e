"""What an admin is told of the service: its settings without secrets, and how the last fit ended."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.registry.directory import note_fit
from models.registry.last_fit import LAST_FIT, LastFit
from tests.support.asgi import calling

CLIENT, ADMIN, PASSWORD = "client-key-0123456789", "admin-key-0123456789", "pa55word"
BEARER = [("authorization", f"Bearer {ADMIN}")]
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def own(checkpoints: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints, tmp_path / "checkpoints"))


def test_an_admin_sees_every_setting_and_no_secret(own: Path, tmp_path: Path) -> None:
    more = tmp_path / "keys"
    more.write_text(f"another-{CLIENT}\n")
    settings = Settings(
        checkpoints=own,
        api_keys=SecretStr(f"{CLIENT},second-{CLIENT}"),
        api_keys_file=more,
        admin_keys=SecretStr(ADMIN),
        store=SecretStr(f"sqlite:///{tmp_path}/ratings.sqlite?timeout=7"),
        api_keys_may_rate=True,
    )
    with calling(create_app(settings)) as call:
        answer = call("GET", "/settings", headers=BEARER)
        refused = call("GET", "/settings", headers=[("authorization", f"Bearer {CLIENT}")])
    text = answer.body.decode()
    found = {setting["name"]: setting for setting in json.loads(text)["settings"]}
    assert (answer.status, refused.status) == (200, 403)
    assert {*found} == {f"RATECAST_{name.upper()}" for name in Settings.model_fields}
    assert {
        name: (found[f"RATECAST_{name}"]["value"], found[f"RATECAST_{name}"]["given"])
        for name in ("API_KEYS", "ADMIN_KEYS", "API_KEYS_FILE", "API_KEYS_MAY_RATE", "STORE", "PORT", "RATE_LIMIT")
    } == {
        "API_KEYS": ("2 keys", True),
        "ADMIN_KEYS": ("1 key", True),
        "API_KEYS_FILE": (str(more), True),
        "API_KEYS_MAY_RATE": ("true", True),
        "STORE": (f"sqlite:///{tmp_path}/ratings.sqlite", True),
        "PORT": ("8000", False),
        "RATE_LIMIT": (None, False),
    }
    assert int(found["RATECAST_THREADS"]["value"]) >= 1
    assert all(setting["meaning"] for setting in found.values())
    assert [secret for secret in (CLIENT, ADMIN, "timeout") if secret in text] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", f"postgresql://ann:{PASSWORD}@host/ratings?sslpassword={PASSWORD}"),
        ("store", f"postgresql://ann:p@ss/{PASSWORD}@host/ratings"),
        ("checkpoints", f"s3://ann:{PASSWORD}@bucket/models?token={PASSWORD}"),
    ],
)
def test_urls_are_shown_without_their_secrets(name: str, value: str) -> None:
    (shown,) = [setting for setting in Settings(**{name: value}).effective() if setting.name.endswith(name.upper())]
    assert PASSWORD not in str(shown.value)
    assert str(shown.value).startswith(value[: value.index("://")])


def test_how_the_last_fit_ended_is_what_its_job_noted(own: Path) -> None:
    fit = LastFit(
        outcome="refused",
        began_at=NOON,
        ended_at=NOON + timedelta(minutes=2),
        version=None,
        reason="not published: RMSE 1.0213 does not beat the bias model's 0.9812",
        next_at=NOON + timedelta(days=1),
    )
    with calling(
        create_app(Settings(checkpoints=own, api_keys=SecretStr(CLIENT), admin_keys=SecretStr(ADMIN)))
    ) as call:
        assert call("GET", "/models/last-fit", headers=[("authorization", f"Bearer {CLIENT}")]).status == 403
        before = call("GET", "/models/last-fit", headers=BEARER)
        note_fit(own, fit)
        after = call("GET", "/models/last-fit", headers=BEARER)
        (own / LAST_FIT).write_text('{"outcome": "lost"}')
        broken = call("GET", "/models/last-fit", headers=BEARER)
    assert json.loads(before.body)["fit"] is None
    assert LastFit.model_validate(json.loads(after.body)["fit"]) == fit
    assert broken.status == 503
    assert "LAST_FIT does not say how a fit ended" in json.loads(broken.body)["detail"]
