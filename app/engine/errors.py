"""The errors of the engine, besides those of `models.errors`."""

from __future__ import annotations

from models.errors import RatecastError


class EngineError(RatecastError):
    """Root of the engine's errors."""


class NotReadyError(EngineError):
    """No model has been loaded yet."""


class OverloadedError(EngineError):
    """Too much work is waiting. The refused request was not begun."""


class DeadlineExceededError(EngineError):
    """The answer did not come within the time limit of a request."""


class CancelledRequestError(EngineError):
    """The client has gone before its answer was ready. Its work was stopped."""


class OrderingUnavailableError(EngineError):
    """An order of lists that the model being served cannot give."""


class UnknownVersionError(EngineError):
    """A version that is not among the published checkpoints."""


class VersionNotLoadedError(EngineError):
    """A version that a request asks for and that does not answer now."""


class SplitError(EngineError):
    """A split that cannot be; nothing was changed."""


class ActivationError(EngineError):
    """A version that cannot be made the current one; nothing was changed."""
