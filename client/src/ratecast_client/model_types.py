"""The types of the service's answers about its models, their versions and its health.

As in `types`, each class has the name and the fields of one schema of the service's OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from ratecast_client.types import answer


@answer
class RelevanceRule:
    """The constants from which a user's row of the relevance head is computed."""

    mean: float
    deviation: float
    slope: float
    missing_weight: float
    regularisation: float
    exponent: float
    solved_factors: int


@answer
class ModelShape:
    """Sizes of the model's tables, whether it has intervals and a relevance head, and the scale of the ratings."""

    users: int
    items: int
    factors: int
    uncertainty: bool
    relevance_factors: int | None
    relevance_rule: RelevanceRule | None
    rating_min: float
    rating_max: float


@answer
class TrainerRecord:
    """How the model was fitted."""

    name: str
    preset: str
    settings: Mapping[str, Any]
    seed: int
    device: str
    threads: int
    fit_seconds: float


@answer
class Snapshot:
    """The state of a ratings store that a model was fitted on."""

    store: str
    revision: int


@answer
class Drift:
    """How the training ratings differ from those of the version that was current before."""

    against: str
    rating_mean: float
    rating_deviation: float
    known_users: float
    known_items: float
    coverage: float


@answer
class DataRecord:
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


@answer
class GateRecord:
    """The quality gate's verdict on a model; `forced` says that the model was published against it."""

    verdict: Literal["passed", "refused", "not measured"]
    reasons: tuple[str, ...] = ()
    forced: bool = False


@answer
class CurrentModel:
    """The model being served. A metric that does not apply is None. `report` says whether it has a training report."""

    version: str
    created_at: datetime
    age_seconds: float
    device: str
    shape: ModelShape
    trainer: TrainerRecord
    data: DataRecord
    gate: GateRecord
    report: bool
    metrics: Mapping[str, float | None]


@answer
class PublishedModel:
    """A published version; `serving` says whether the worker that answered serves it.

    `concern` is why it is activated only by force; None where it is not.
    """

    version: str
    created_at: datetime
    preset: str
    metrics: Mapping[str, float | None]
    gate: GateRecord
    report: bool
    serving: bool
    concern: str | None


@answer
class UserSplit:
    """A version that answers a share of the users beside the current one."""

    version: str
    share: float


@answer
class StartedSplit:
    """The split from now on; other workers follow within two seconds."""

    version: str
    share: float
    model_version: str


@answer
class PublishedModels:
    """Every published version that can be read, oldest first. `previous` is the one that `rollback` activates.

    `split` is None where one version answers all users.
    """

    models: tuple[PublishedModel, ...]
    previous: str | None
    split: UserSplit | None
    model_version: str


@answer
class ComparedModels:
    """The RMSE of two versions on the same held-out ratings.

    `low` and `high` bound `difference`, `rmse` less `rmse_against`, with 95 % confidence. `verdict` is of `version`.
    """

    version: str
    against: str
    ratings: int
    users: int
    rmse: float
    rmse_against: float
    difference: float
    low: float
    high: float
    verdict: Literal["better", "no difference", "worse"]
    model_version: str


@answer
class Pass:
    """The figures after a pass of the fit; `test_rmse` is None if it was not measured."""

    number: int
    figures: Mapping[str, float]
    test_rmse: float | None
    fit_seconds: float


@answer
class History:
    """The learning curve of a version."""

    version: str
    passes: tuple[Pass, ...]
    model_version: str


@answer
class Activated:
    """The version that was activated."""

    model_version: str


@answer
class LastFit:
    """How a fit ended: the version that was published, or the reason why none was. `next_at` is that of the next."""

    outcome: Literal["published", "refused", "failed"]
    began_at: datetime
    ended_at: datetime
    version: str | None
    reason: str | None
    next_at: datetime | None


@answer
class LastFitAnswer:
    """The last fit; None where its job noted none."""

    fit: LastFit | None
    model_version: str


@answer
class Setting:
    """A setting as the service uses it. `name` is its variable, and `given` says whether that was set."""

    name: str
    value: str | None
    given: bool
    meaning: str


@answer
class ServiceSettings:
    """Every setting of the service."""

    settings: tuple[Setting, ...]
    model_version: str


@answer
class LiveFigures:
    """The errors of a version for new ratings of one source. `bias_…` are those of biases alone; None: no intervals."""

    version: str
    source: Literal["model", "fold_in", "unknown", "all"]
    ratings: int
    rmse: float
    mae: float
    coverage90: float | None
    bias_rmse: float
    bias_mae: float
    bias_coverage90: float | None


@answer
class Quality:
    """The live error of the last days. `waiting` ratings have come in and are not in it yet."""

    days: int
    waiting: int
    figures: tuple[LiveFigures, ...]
    model_version: str


@answer
class DayOfRatings:
    """How many stored ratings are of a day, in UTC, as in `2026-11-29`."""

    day: str
    ratings: int


@answer
class RatingsSince:
    """What has come since the served model was fitted; everything, if that was on other data than the store."""

    users: int
    ratings: int


@answer
class RatingsSummary:
    """What is in the store. `deleted_users` are remembered, and left out of later fits."""

    ratings: int
    users: int
    items: int
    deleted_users: int
    first: datetime | None
    last: datetime | None
    since_fit: RatingsSince
    days: tuple[DayOfRatings, ...]
    model_version: str


@answer
class FailedLoad:
    """A version that the service should serve and could not load; `version` is None if none is named."""

    version: str | None
    reason: str
    since: datetime


@answer
class Live:
    """The process is alive."""

    status: Literal["live"] = "live"


@answer
class Ready:
    """A model is being served."""

    status: Literal["ready"] = "ready"
    model_version: str
    failed_load: FailedLoad | None = None
