"""What can go wrong in the engine, beside what `models.errors` names."""

from models.errors import RatecastError


class EngineError(RatecastError):
    """Root of the engine's errors."""


class DeviceUnavailableError(EngineError):
    """A device that this machine does not have."""


class NotReadyError(EngineError):
    """No model has been loaded yet."""
