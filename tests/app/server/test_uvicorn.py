"""What `app/server/protocol.py` and `app/server/workers.py` rely on in uvicorn beyond its documentation.

When this fails after an update, read these files beside uvicorn's before the upper bound in pyproject.toml moves.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn import _subprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess, multiprocess

from app.server.workers import Worker

OVERRIDDEN = ("connection_made", "connection_lost", "data_received", "on_message_begin", "on_headers_complete",
              "on_body", "on_message_complete", "on_response_complete", "shutdown",
              "_start_asgi_task")  # fmt: skip
ATTRIBUTES = ("loop", "connections", "flow", "transport", "parser", "cycle", "pipeline", "server_state")


@pytest.fixture
def protocol() -> Any:
    """A protocol with a connection on which nothing has been received."""

    async def connect() -> HttpToolsProtocol:
        config = uvicorn.Config(FastAPI(), lifespan="off", log_config=None)
        config.load()
        made = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        info = {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 80)}
        transport = SimpleNamespace(get_extra_info=info.get, get_protocol=lambda: made)
        made.connection_made(transport)  # type: ignore[arg-type]
        return made

    return asyncio.run(connect())


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_protocol_has_the_methods_that_are_overridden_or_called(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_connected_protocol_has_the_attributes_that_are_read(protocol: Any, name: str) -> None:
    assert hasattr(protocol, name)


def test_a_connection_is_counted_and_has_no_request_at_first(protocol: Any) -> None:
    assert protocol.connections == {protocol}
    assert protocol.cycle is None


def test_a_head_that_was_begun_has_its_target_and_its_fields(protocol: Any) -> None:
    """A head that offers an upgrade is made from these again."""
    protocol.on_message_begin()
    protocol.on_url(b"/a?b")
    protocol.on_header(b"Name", b"Value")
    assert (protocol.url, protocol.headers) == (b"/a?b", [(b"name", b"Value")])


def test_the_flow_of_a_connection_can_be_paused_and_resumed(protocol: Any) -> None:
    assert protocol.flow.write_paused is False
    assert callable(protocol.flow.pause_reading)
    assert callable(protocol.flow.resume_reading)


OF_CYCLE = ("more_body", "response_started", "response_complete", "disconnected", "default_headers", "scope", "flow",
            "transport", "message_event", "on_response", "keep_alive", "waiting_for_100_continue", "chunked_encoding",
            "expected_content_length")  # fmt: skip


@pytest.mark.parametrize("name", OF_CYCLE)
def test_a_request_has_the_attributes_that_its_answer_is_sent_by(name: str) -> None:
    assert re.search(rf"self\.{name}\b", inspect.getsource(RequestResponseCycle.__init__))


def test_no_other_attribute_is_read_or_set_to_send_an_answer() -> None:
    used = {*re.findall(r"self\.(\w+)", inspect.getsource(RequestResponseCycle.send))}
    assert used == {*OF_CYCLE, "access_log", "access_logger"} - {"more_body"}


def test_head_and_body_of_an_answer_are_written_apart() -> None:
    """Were they one write, and were headers looked at together, `Cycle` would not be needed."""
    assert inspect.getsource(RequestResponseCycle.send).count("self.transport.write(") >= 2


def test_a_cycle_can_be_told_to_send_in_another_way() -> None:
    assert "self.send" in inspect.getsource(RequestResponseCycle.run_asgi)
    assert not hasattr(RequestResponseCycle, "__slots__")


def test_answers_begin_with_a_line_of_their_status() -> None:
    assert STATUS_LINE[200].rstrip() == b"HTTP/1.1 200 OK"


def test_the_parent_of_workers_keeps_their_exit_codes() -> None:
    assert STARTUP_FAILURE == 3
    assert "self.processes" in inspect.getsource(Multiprocess.__init__)
    assert "exitcode" in inspect.getsource(inspect.getmodule(Multiprocess))  # type: ignore[arg-type]
    assert "process.is_alive(" in inspect.getsource(Multiprocess.keep_subprocess_alive)
    assert "self.child_conn = Pipe()" in inspect.getsource(inspect.getmodule(Multiprocess))  # type: ignore[arg-type]
    assert list(inspect.signature(Multiprocess.__init__).parameters) == ["self", "config", "sockets"]


def test_the_parent_makes_workers_of_a_class_that_can_be_set() -> None:
    """That class forks a worker in `start`, and serves in `target`, in the worker."""
    (base,) = Worker.__bases__
    assert (base.__module__, base.__name__) == (multiprocess.__name__, "Process")
    assert "self.process.start()" in inspect.getsource(base.start)
    assert "get_subprocess(config, self.target, sockets)" in inspect.getsource(base.__init__)
    for method in (Multiprocess.init_processes, Multiprocess.restart_all, Multiprocess.keep_subprocess_alive):
        assert " = Process(self.config, self.sockets)" in inspect.getsource(method)
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= multiprocess.SIGNALS.keys()


def test_workers_are_processes_of_a_context_that_can_be_set() -> None:
    assert "return spawn.Process(" in inspect.getsource(_subprocess.get_subprocess)


def test_an_application_is_imported_by_its_name() -> None:
    assert import_from_string("uvicorn.config:Config") is uvicorn.Config
