"""The errors of the domain. They know no HTTP and no exit codes: service and job map them."""


class RatecastError(Exception):
    """Root of every error that Ratecast raises on purpose. `str(error)` is one line a user can act on."""


class UnknownIdError(RatecastError):
    """An id that the checkpoint does not have. `position` is its place in a column of ids; None for a single id."""

    kind = "id"

    def __init__(self, id_: str, position: int | None = None) -> None:
        super().__init__(f"unknown {self.kind} {id_!r}" + ("" if position is None else f" at position {position}"))
        self.id = id_
        self.position = position


class UnknownUserError(UnknownIdError):
    """A user without training ratings."""

    kind = "user"


class UnknownItemError(UnknownIdError):
    """An item without training ratings."""

    kind = "item"


class DeviceUnavailableError(RatecastError):
    """A device that this machine does not have."""


class CheckpointError(RatecastError):
    """A checkpoint that cannot be read or published."""


class CheckpointNotFoundError(CheckpointError):
    """The version does not exist, or nothing has been published in the directory."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint whose content differs from its manifest. The message names the file or tensor."""


class CheckpointFormatError(CheckpointError):
    """A checkpoint in a format that this release does not read."""


class ReportNotFoundError(CheckpointError):
    """A checkpoint without this file in its report."""


class GoldenPairsError(CheckpointError):
    """A model whose predictions differ from those at its publication."""


class UnprovenVersionError(CheckpointError):
    """A version that was not measured, was refused or is behind its baseline, and that nobody wants by force."""


class ComparisonError(CheckpointError):
    """Two versions that cannot be compared: too few ratings are new to both."""


class RemoteError(CheckpointError):
    """A registry behind a URL that cannot be reached or used."""


class PublicationError(CheckpointError):
    """A checkpoint that could not be written; nothing was published."""


class InterruptedHalfWay(KeyboardInterrupt):
    """An interrupt that says what had been done when it came."""


class InterruptedAfterPublication(InterruptedHalfWay):
    """An interrupt that came when a version had been published.

    Attributes:
        version: its name.
    """

    def __init__(self, version: str) -> None:
        super().__init__(f"{version} was published")
        self.version = version
