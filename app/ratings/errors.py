"""What can go wrong with a ratings store. No message holds a password."""

from models.errors import RatecastError


class StoreError(RatecastError):
    """Root of the store's errors."""


class StoreUnavailableError(StoreError):
    """The database cannot be reached, or does not answer in time. Nothing is known to have been written."""


class StoreUnusableError(StoreError):
    """A database that cannot be used as a store: not a URL, no driver, tables of others, of a newer release."""


class NoStoreError(StoreError):
    """The service was told to keep no ratings."""


class RequestKeyError(StoreError):
    """A request key that was used before, for other ratings."""
