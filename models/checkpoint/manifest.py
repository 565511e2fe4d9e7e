"""The manifest: every fact about a model except its tables. Specified in `docs/checkpoint-format.md`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from models.relevance import RelevanceRule

FORMAT_VERSION = 6
FILE_NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
VERSION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def _safe_names(files: Mapping[str, FileEntry]) -> Mapping[str, FileEntry]:
    for name in files:
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a file name inside a checkpoint")
    return files


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Record):
    """The size and the hash of a file of the checkpoint."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class ModelShape(_Record):
    """Sizes of the tables, whether there are variances and a relevance head, and the scale of the ratings."""

    users: Annotated[int, Field(ge=1)]
    items: Annotated[int, Field(ge=1)]
    factors: Annotated[int, Field(ge=0)]
    uncertainty: bool
    relevance_factors: Annotated[int, Field(ge=1)] | None
    relevance_rule: RelevanceRule | None
    rating_min: float
    rating_max: float

    @model_validator(mode="after")
    def _ordered(self) -> ModelShape:
        if self.rating_min > self.rating_max:
            raise ValueError("rating_min is above rating_max")
        if (self.relevance_factors is None) != (self.relevance_rule is None):
            raise ValueError("relevance_factors and relevance_rule must both be given, or neither")
        if self.relevance_rule is not None and self.relevance_rule.solved_factors > (self.relevance_factors or 0):
            raise ValueError("relevance_rule has more solved_factors than there are relevance_factors")
        return self


class TrainerRecord(_Record):
    """How the model was fitted: enough to fit it again."""

    name: str
    preset: str
    settings: Mapping[str, JsonValue]
    seed: int
    device: str
    threads: int
    fit_seconds: float


class Snapshot(_Record):
    """The state of a ratings store: its id, and its last change."""

    store: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
    revision: Annotated[int, Field(ge=0)]


class Drift(_Record):
    """How the training ratings differ from those of the version that was current before."""

    against: str  # that version
    rating_mean: float  # of its training ratings, as the deviation
    rating_deviation: float
    known_users: float  # share of the training ratings whose user it knows
    known_items: float
    coverage: float  # share of those whose user and item it knows both


class DataRecord(_Record):
    """What the model was fitted on."""

    name: str
    split: str
    fingerprint: str
    train_ratings: int
    test_ratings: int
    duplicates: int
    rating_mean: float
    rating_deviation: float
    snapshot: Snapshot | None = None
    drift: Drift | None = None


class GateRecord(_Record):
    """The verdict of the quality gate, and whether the model was published against it."""

    verdict: Literal["passed", "refused", "not measured"]
    reasons: tuple[str, ...] = ()
    forced: bool = False


class Manifest(_Record):
    """The content of `manifest.json`."""

    format_version: Literal[6] = 6
    number: Annotated[int, Field(ge=1)]
    version: Annotated[str, StringConstraints(pattern=f"^{VERSION_NAME.pattern}$")]
    created_at: datetime
    model: ModelShape
    trainer: TrainerRecord
    data: DataRecord
    gate: GateRecord
    metrics: Mapping[str, float | None]
    files: Annotated[Mapping[str, FileEntry], AfterValidator(_safe_names)]

    @property
    def concern(self) -> str | None:
        """Why the version is served only by force, in a few words; None where nothing speaks against it."""
        error, of_biases = self.metrics.get("rmse"), self.metrics.get("bias_rmse")
        if self.gate.verdict == "refused":
            return "refused by the quality gate (" + "; ".join(self.gate.reasons) + ")"
        if self.gate.verdict == "not measured":
            return "not measured"
        if error is not None and of_biases is not None and error >= of_biases:
            return f"behind its baseline (RMSE {error:.4f}, biases alone {of_biases:.4f})"
        return None

    @property
    def gain(self) -> float | None:
        """How far the RMSE is below that of biases alone, as a share of it; None where it was not measured."""
        error, of_biases = self.metrics.get("rmse"), self.metrics.get("bias_rmse")
        return None if error is None or not of_biases else 1 - error / of_biases

    def to_json(self) -> bytes:
        """The content of the file."""
        return self.model_dump_json(indent=2).encode() + b"\n"
