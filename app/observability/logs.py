"""Logs: one JSON object a line on stderr, and a sample of the requests among them.

What clients send is never logged, nor their addresses: no ids, paths, queries, bodies or keys. An
exception is logged as its type and where it was raised, without its message, which may contain any of those.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("app.requests")


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `message`, the members of `fields`, and `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _first_line(record),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{datetime.fromtimestamp(record.created):%H:%M:%S} {record.levelname.lower():<7} {_first_line(record)}"
        line += "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        told = _describe(record.exc_info[1]) if record.exc_info and record.exc_info[1] else None
        while told:
            line += "".join(f"\n    {part}" for part in [*told["frames"], told["type"]])
            told = told.get("from")
        return line


def _first_line(record: logging.LogRecord) -> str:
    """The first line of a message: the later lines of asyncio's messages have the content of a task.

    Of a traceback, which the server logs if the service cannot start, the last line, because it says why.
    """
    lines = record.getMessage().strip().split("\n")
    return lines[-1] if lines[0].startswith("Traceback ") else lines[0]


def _describe(error: BaseException) -> dict[str, Any]:
    """An exception's type, its frames, innermost last, and its cause; no messages."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    told = {"type": f"{type(error).__module__}.{type(error).__qualname__}", "frames": frames}
    source = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told if source is None else told | {"from": _describe(source)}


def log_request(request_id: bytes, method: str, route: str, status: int, seconds: float, cause: str | None) -> None:
    """Log an answered request. `route` is a template; `cause` is the kind of problem, if the answer is one."""
    fields = {"request_id": request_id.decode(), "method": method, "route": route, "status": status}
    fields |= {"seconds": round(seconds, 6)} | ({} if cause is None else {"cause": cause})
    logger.info("request", extra={"fields": fields})


def configuration(level: str, form: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything to stderr, as `json` or `text`; `auto` is text on a terminal."""
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    own = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    others = {"handlers": ["stderr"], "level": level.upper() if level in ("error", "critical") else "WARNING"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": "app.observability.logs.JsonFormatter"},
            "text": {"()": "app.observability.logs.TextFormatter"},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": form}},
        "loggers": dict.fromkeys(("app", "uvicorn"), own) | {"uvicorn.error": {}, "asyncio": own},
        "root": others,
    }
