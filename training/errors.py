"""What can go wrong in the offline job. `training/cli/program.py` gives each leaf an exit code."""

from models.errors import RatecastError


class TrainingError(RatecastError):
    """Root of the offline job's errors."""


class DataError(TrainingError):
    """Ratings that cannot be read or used. The message names the file, and the line if there is one."""


class SourceUnavailableError(DataError):
    """A data set that could not be fetched. The message names every source that was tried."""


class ConfigError(TrainingError):
    """A preset, setting, split or device that does not exist or does not fit the data."""


class OverlapError(TrainingError):
    """Pairs that are in both the training and the test part, which would make the evaluation meaningless."""


class RefusedError(TrainingError):
    """The quality gate refused a model. Nothing was published."""


class ExportError(TrainingError):
    """Lists could not be written. No file was left behind."""


class DivergedError(TrainingError):
    """A fit whose figures are no longer finite."""
