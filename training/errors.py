"""What can go wrong in the offline job. `training/cli/program.py` gives each leaf an exit code."""

from models.errors import RatecastError


class TrainingError(RatecastError):
    """Root of the offline job's errors."""


class DataError(TrainingError):
    """Ratings that cannot be read or used. The message names the file, and the line where there is one."""


class SourceUnavailableError(DataError):
    """A data set that could not be fetched. The message names every source that was tried."""


class ConfigError(TrainingError):
    """A preset, setting, split or device that does not exist or does not fit the data."""


class OverlapError(TrainingError):
    """Pairs that stand in the training and in the test part: the evaluation would mean nothing."""


class RefusedError(TrainingError):
    """A model that the quality gate did not let pass. Nothing was published."""


class ExportError(TrainingError):
    """Lists that could not be written. Nothing was."""


class DivergedError(TrainingError):
    """A fit whose figures are no longer finite."""
