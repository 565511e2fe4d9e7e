"""The dashboard and the alert rules name metrics and labels that the service has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.checkpoint.writer import Draft
from models.registry.directory import CURRENT, publish
from tests.support import ROOT
from tests.support.asgi import calling

FOLDER = ROOT / "docs/operations"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
KEY = "client-key-0123456789"
JSON = (("content-type", "application/json"), ("authorization", f"Bearer {KEY}"))
FUNCTIONS = {"sum", "rate", "max", "by", "time", "count", "increase", "absent", "histogram_quantile", "le", "instance"}


def expressions() -> Iterator[str]:
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    yield from (rule["expr"] for rule in RULES)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, make_draft) -> dict[str, dict[str, set[str]]]:
    """Every series after some traffic of all kinds: name, then label, then values."""
    directory = tmp_path_factory.mktemp("operations")
    draft: Draft = make_draft(0)
    publish(directory, draft)
    settings = Settings(checkpoints=directory, api_keys=SecretStr(KEY), api_keys_may_rate=True)
    found: dict[str, dict[str, set[str]]] = {}
    with pytest.MonkeyPatch.context() as patch, calling(create_app(settings)) as call:
        patch.setattr("app.engine.live_error.TELL_SECONDS", 0.0)
        call("PUT", "/users/7/ratings/unheard of", b'{"rating": 3}', JSON)
        while b"ratecast_live_error{" not in call("GET", "/metrics", b"", JSON).body:
            call.wait(0.1)
        call("POST", "/predict", b'{"user": "1", "item": "2"}', JSON)
        call("POST", "/predict", b'{"user": "1", "item": "2"}')
        call("POST", "/recommend", b'{"users": ["1", "?"]}', JSON)
        (directory / CURRENT).write_text("nowhere")
        while b"ratecast_model_load_failing 1" not in call("GET", "/metrics", b"", JSON).body:
            call.wait(0.1)
        text = call("GET", "/metrics", b"", JSON).body.decode()
    for name, labels in re.findall(r"^(ratecast_\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        values = found.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            values.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("expression", [*expressions()])
def test_every_metric_and_label_that_is_asked_for_exists(
    expression: str, series: dict[str, dict[str, set[str]]]
) -> None:
    names = re.findall(r"\bratecast_\w+", expression)
    assert names
    labels = set()
    for name in names:
        assert name in series
        labels |= series[name].keys()
    for _, selector in re.findall(r"(ratecast_\w+)\{([^}]*)\}", expression):
        labels_used = re.findall(r"(\w+)(?:=|!=|=~|!~)\"", selector)
        assert labels_used
        assert set(labels_used) <= labels
    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        assert set(grouping.split(", ")) - {"instance"} <= labels


@pytest.mark.parametrize("expression", [*expressions()])
def test_every_expression_is_well_formed(expression: str) -> None:
    assert expression.count("(") == expression.count(")")
    words = set(re.findall(r"\b[a-z_]+\b(?=\s*\()", expression))
    assert words <= FUNCTIONS


def test_causes_in_the_rules_are_kinds_of_problems() -> None:
    from app.errors import KINDS

    kinds = {kind.name for kind in KINDS.values()}
    causes = [
        cause for rule in RULES for found in re.findall(r'cause=~"([^"]*)"', rule["expr"]) for cause in found.split("|")
    ]
    assert causes
    assert set(causes) <= kinds


def test_panels_and_alerts_have_names_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket") for rule in RULES)


def test_every_metric_is_on_the_dashboard(series: dict[str, dict[str, set[str]]]) -> None:
    shown = {
        re.sub("_(bucket|sum|count)$", "", name) for text in expressions() for name in re.findall(r"ratecast_\w+", text)
    }
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in series} == shown
