"""FastAPI's own OpenTelemetry: with `RATECAST_OPENTELEMETRY` every request becomes a span, of plain routes too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

PROGRAM = """
import json, sys
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from app.main import create_app
from app.settings import Settings
from tests.support.asgi import calling

with calling(create_app(Settings(checkpoints=Path(sys.argv[1]), opentelemetry=sys.argv[2] == "true"))) as call:
    call("POST", "/predict", b'{"user": "1", "item": "2"}', (("content-type", "application/json"),))
    call("GET", "/users/1/top")
    call("GET", "/models/current")
print(json.dumps([[span.name, dict(span.attributes)] for span in exporter.get_finished_spans()], default=str))
"""


@pytest.mark.parametrize("wanted", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_requests_become_spans_where_that_is_wanted(checkpoints: Path, wanted: str) -> None:
    """In a process of its own: a tracer is set once for all."""
    command = [sys.executable, "-c", PROGRAM, str(checkpoints), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    spans = json.loads(done.stdout.splitlines()[-1])
    routes = [attributes["http.route"] for _, attributes in spans if "http.route" in attributes]
    assert routes == (["/predict", "/users/{user}/top", "/models/current"] if wanted == "true" else [])
