"""What the two clients share: how they are set up. How they ask is in `exchange`, what they ask in `operations`."""

from __future__ import annotations

import inspect
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ratecast_client.exchange import Clock, Policy, Retries, http_options
from ratecast_client.version import __version__

Http = TypeVar("Http")
USUAL_RETRIES, REAL_CLOCK = Retries(), Clock()


class Configured(ABC, Generic[Http]):
    """A client of one service. Its connections are kept and used again until it is closed.

    Args:
        url: of the service, perhaps with a path in front of its own.
        key: is shown with every request.
        timeout: seconds without a byte after which an attempt is given up.
        deadline: seconds for a request with all its attempts and pauses.
        retries: how often and after which pauses a request is sent again, where that is safe.
        verify: False takes any certificate; an SSLContext says which to take.
        clock: time and chance, for tests.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 15.0,
        deadline: float = 60.0,
        retries: Retries = USUAL_RETRIES,
        verify: bool | ssl.SSLContext = True,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self.url = url
        self._policy = Policy(timeout, deadline, retries, clock)
        self._http = self._open(http_options(url, key, verify, f"ratecast-client/{__version__}"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> Http: ...


def as_method(method: Any, operation: Callable[..., Any]) -> None:
    """Give a method the name, the documentation and the arguments of what it does."""
    method.__name__ = method.__qualname__ = operation.__name__
    method.__doc__ = operation.__doc__
    signature = inspect.signature(operation)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(
        parameters=[itself, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
