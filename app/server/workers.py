"""The parent of several workers: it has imported the application and verified the version, forks workers, no more.

So workers start in a fraction of a second, and share the memory of what was imported. A fork is safe because no other
thread of the parent has work under way, it has multiplied no matrices, and no event loop, database or device is open
there; what needs such things all the time runs in a process beside the workers, which is forked as they are.

`tests/app/server/test_uvicorn.py` names the parts of uvicorn that are used here and are not documented.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvloop  # noqa: F401 - here, so that workers share the memory of it
from uvicorn import _subprocess
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.lifespan import on  # noqa: F401 - the same
from uvicorn.supervisors import Multiprocess, multiprocess

PARENT_SECONDS = 0.25  # between two looks whether the parent still runs

context = multiprocessing.get_context("fork")


def supervise(config: Config, listener: socket.socket, beside: Callable[[], object] | None) -> bool:
    """Run the workers of a configuration, and replace those that die. Returns whether all of them could start.

    `beside` is run in one more process, for ever.
    """
    _subprocess.spawn = context  # type: ignore[assignment]
    vars(multiprocess)["Process"] = Worker
    workers = Workers(config, [listener], beside)
    try:
        workers.run()
    finally:
        workers.end_beside()
    return all(worker.exitcode != STARTUP_FAILURE for worker in workers.processes)


class Worker(multiprocess.Process):
    """uvicorn's worker; but it handles no signal as its parent does, and no other worker has its connection open."""

    def start(self) -> None:
        """Fork it. In the parent."""
        with _signals_wait():
            super().start()
        self.child_conn.close()  # so that its end ends the wait for its answer

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve. In the worker."""
        _begin()
        super().target(sockets)


class Workers(Multiprocess):
    """uvicorn's parent of workers, with a process beside them. `supervise` describes the arguments."""

    def __init__(
        self,
        config: Config,
        sockets: list[socket.socket],
        beside: Callable[[], object] | None,
    ) -> None:
        super().__init__(config, sockets)
        self._run_beside = beside
        self._beside: Any = None

    def init_processes(self) -> None:
        """As uvicorn's, with the process beside them."""
        super().init_processes()
        self._keep_beside()

    def keep_subprocess_alive(self) -> None:
        """As uvicorn's; the process beside them is replaced too."""
        super().keep_subprocess_alive()
        self._keep_beside()

    def end_beside(self) -> None:
        """End the process beside the workers."""
        if self._beside is not None:
            self._beside.terminate()
            self._beside.join()

    def _keep_beside(self) -> None:
        if self._run_beside is None or (self._beside is not None and self._beside.is_alive()):
            return
        self._beside = context.Process(target=_begin_and_run, args=(self._run_beside,), daemon=True)
        with _signals_wait():
            self._beside.start()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals come after the block: a child that is forked in it has the parent's handlers until it is in `_begin`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, multiprocess.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, multiprocess.SIGNALS)


def _begin() -> None:
    """Begin in a process that was just forked: a signal ends it, and it ends with its parent."""
    for number in multiprocess.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, multiprocess.SIGNALS)
    if (parent := multiprocessing.parent_process()) is not None:
        Thread(target=_end_with, args=(parent.pid,), name="parent", daemon=True).start()


def _begin_and_run(work: Callable[[], object]) -> None:
    _begin()
    work()


def _end_with(parent: int | None) -> None:
    """End this process when its parent has ended.

    Else it would go on answering beside the workers that replace it, or after the service has stopped.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
