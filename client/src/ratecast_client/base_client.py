"""The configuration that both clients share. Requests are made in `operations`, attempts and pauses in `exchange`."""

from __future__ import annotations

import inspect
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ratecast_client.exchange import Clock, Policy, Retries, http_options
from ratecast_client.version import __version__

Http = TypeVar("Http")
DEFAULT_RETRIES, SYSTEM_CLOCK = Retries(), Clock()


class BaseClient(ABC, Generic[Http]):
    """A client of one service. It keeps its connections open and reuses them until it is closed.

    Args:
        url: URL of the service; it may have a path.
        key: API key, sent with every request.
        timeout: seconds without a byte after which an attempt fails.
        deadline: seconds for a request with all its attempts and pauses.
        retries: how often and after which pauses a request is sent again, if that is safe.
        verify: False accepts any certificate; an SSLContext says which to accept.
        clock: source of time and random numbers, for tests.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 15.0,
        deadline: float = 60.0,
        retries: Retries = DEFAULT_RETRIES,
        verify: bool | ssl.SSLContext = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.url = url
        self._policy = Policy(timeout, deadline, retries, clock)
        self._http = self._open(http_options(url, key, verify, f"ratecast-client/{__version__}"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> Http: ...


def as_method(method: Any, operation: Callable[..., Any]) -> None:
    """Give a method the name, the docstring and the signature of its operation."""
    method.__name__ = method.__qualname__ = operation.__name__
    method.__doc__ = operation.__doc__
    signature = inspect.signature(operation)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(
        parameters=[itself, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
