"""What can go wrong in the engine, beside what `models.errors` names."""

from __future__ import annotations

from models.errors import RatecastError


class EngineError(RatecastError):
    """Root of the engine's errors."""


class NotReadyError(EngineError):
    """No model has been loaded yet."""


class OverloadedError(EngineError):
    """More work is waiting than may wait. Nothing of the refused request was done."""


class DeadlineExceededError(EngineError):
    """An answer that did not come in the time a request may take."""


class CancelledRequestError(EngineError):
    """Whoever asked has gone before the answer was there. What was under way for them was stopped."""


class OrderingUnavailableError(EngineError):
    """An order of lists that the model being served cannot give."""


class UnknownVersionError(EngineError):
    """A version that is not among the published checkpoints."""


class ActivationError(EngineError):
    """A version that cannot be made the current one; nothing was changed."""
