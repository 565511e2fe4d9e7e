"""What can go wrong in the domain. These errors know no HTTP and no exit codes: those who catch them map them."""


class RatecastError(Exception):
    """Root of every error that Ratecast raises on purpose. `str(error)` is one line a user can act on."""


class UnknownIdError(RatecastError):
    """An id that the checkpoint does not hold. `position` is its place in a column of ids, None for a lone one."""

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
    """No such version, or a directory in which nothing has been published."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint whose content is not what its manifest says. The message names the file or tensor."""


class CheckpointFormatError(CheckpointError):
    """A checkpoint written in a format that this version does not read."""


class ReportNotFoundError(CheckpointError):
    """A checkpoint that has no such file in its report."""


class GoldenPairsError(CheckpointError):
    """A model that predicts something else than when it was published."""


class UnprovenVersionError(CheckpointError):
    """A version that was not measured, was refused or is behind its baseline, and that nobody wants by force."""


class ComparisonError(CheckpointError):
    """Two versions that cannot be compared: too few ratings are new to both."""


class RemoteError(CheckpointError):
    """A store of checkpoints behind a URL that cannot be reached or used. What is there is not known."""


class PublicationError(CheckpointError):
    """A checkpoint that could not be written; nothing was published."""
