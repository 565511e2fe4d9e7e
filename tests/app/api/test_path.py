"""Which files answer one pair, the commonest request: few, and those that the documentation names."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

from starlette.types import Receive, Scope, Send

from app.main import create_app
from app.settings import Settings
from models.checkpoint.reader import Checkpoint
from tests.support import ROOT
from tests.support.asgi import Caller, calling

SERVER = "app/server/protocol.py"  # it hands the request over
PROGRAM = tuple(str(ROOT / part) for part in ("app", "models"))


def test_the_files_that_answer_a_pair_are_those_that_are_documented(checkpoints: Path, loaded: Checkpoint) -> None:
    app = create_app(Settings(checkpoints=checkpoints, log_sample=0))
    entered: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PROGRAM):
            entered.add(Path(file).relative_to(ROOT).as_posix())

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        sys.setprofile(note)
        try:
            await app(scope, receive, send)
        finally:
            sys.setprofile(None)

    body = f'{{"user": "{loaded.users[0]}", "item": "{loaded.items[0]}"}}'.encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    request = ("POST", "/predict", body, headers)
    with calling(app) as call:
        assert call(*request).status == 200
        assert Caller(traced, call._runner, call._state)(*request).status == 200
    architecture = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (path,) = (part for part in architecture.split("\n\n") if part.startswith("**The path of one pair.**"))
    assert {SERVER, *entered} == set(re.findall(r"`((?:app|models)/\S+\.py)`", path))
