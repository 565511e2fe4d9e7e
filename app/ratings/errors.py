"""The errors of a ratings store. No message has a password."""

from models.errors import RatecastError


class StoreError(RatecastError):
    """Root of the store's errors."""


class StoreUnavailableError(StoreError):
    """The database is unreachable, or does not answer in time. A change may or may not have been written."""


class StoreUnusableError(StoreError):
    """A database that cannot be used as a store: invalid URL, no driver, foreign tables, or a newer release."""


class NoStoreError(StoreError):
    """The settings name no ratings store."""


class RequestKeyError(StoreError):
    """An idempotency key that was used before, for other ratings."""


class TooManyRatingsError(StoreError):
    """A user with more ratings than one answer has."""
