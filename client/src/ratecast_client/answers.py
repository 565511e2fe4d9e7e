"""What a service answers, one class for each schema of its OpenAPI document, under the same name.

A test compares every field with that document. To follow a new one, add its line here: `decoding` reads it by its type.
A field with a default may be absent from an answer; a member of an answer without a field here is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, dataclass_transform

T = TypeVar("T")

RankBy = Literal["relevance", "rating", "lower_bound"]
Source = Literal["model", "fold_in", "item_bias", "user_bias", "global_mean"]
ListSource = Literal["model", "fold_in", "popular"]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def answer(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, whose fields are given by name."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@answer
class PairPrediction:
    """The rating that the user would give the item, within the scale of the data, and what it rests on."""

    rating: float
    source: Source
    model_version: str


@answer
class ColumnPredictions:
    """A rating and a source for each pair, in the order of the request."""

    ratings: tuple[float, ...]
    sources: tuple[Source, ...]
    model_version: str


@answer
class AnonymousPrediction(PairPrediction):
    """As for a user, from the ratings given with the request; `ratings_used` are of items the model knows."""

    ratings_used: int


@answer
class AnonymousPredictions(ColumnPredictions):
    """As for users, from the ratings given with the request; `ratings_used` are of items the model knows."""

    ratings_used: int


@answer
class ListedItem:
    """An item of a list, with its predicted rating.

    Where intervals were asked for, `low` and `high` are the ends of the central 90 % interval of the expected rating;
    None where the model does not know how sure it is.
    """

    item: str
    rating: float
    title: str | None
    year: int | None
    low: float | None = None
    high: float | None = None


@answer
class UserList:
    """Items to show a user, best first. `user` is None for somebody known by their ratings alone."""

    user: str | None
    source: ListSource
    rank_by: RankBy
    items: tuple[ListedItem, ...]


@answer
class TopItems(UserList):
    """The list of one user."""

    model_version: str


@answer
class Recommendations:
    """A list for each user, in the order of the request."""

    lists: tuple[UserList, ...]
    ratings_used: int | None = None
    model_version: str


@answer
class StoredRating:
    """A rating that is stored and counts from now on; one of an item the model does not know, after the next fit."""

    user: str
    item: str
    rating: float
    timestamp: int
    known_item: bool
    model_version: str


@answer
class RemovedRating:
    """A rating that counts no longer."""

    user: str
    item: str
    model_version: str


@answer
class StoredRatings:
    """How many ratings are stored, and how many of them are of items the model does not know."""

    stored: int
    unknown_items: int
    model_version: str


@answer
class ErasedUser:
    """A user of whom nothing is stored any more."""

    user: str
    model_version: str


@answer
class UserRating:
    """What the user gave an item; `timestamp` is None where only the training data has the rating."""

    item: str
    rating: float
    timestamp: int | None
    title: str | None


@answer
class UserRatings:
    """All ratings that count for a user."""

    user: str
    ratings: tuple[UserRating, ...]
    model_version: str


@answer
class UserRow:
    """What a model learned of a user."""

    bias: float
    factors: tuple[float, ...]
    relevance_factors: tuple[float, ...] | None


@answer
class UserExport(UserRatings):
    """All that the service holds of a user."""

    known_to_model: bool
    row: UserRow | None


@answer
class Reason:
    """A rating of the user, and its part in the prediction."""

    item: str
    rating: float
    contribution: float
    title: str | None


@answer
class Because:
    """A prediction as a sum: `baseline`, the parts of the user's ratings, and `others`, the parts not listed."""

    user: str
    item: str
    title: str | None
    rating: float
    baseline: float
    reasons: tuple[Reason, ...]
    others: float
    model_version: str


@answer
class SimilarItem:
    """An item, and the cosine of its factors with the other one's."""

    item: str
    similarity: float
    title: str | None
    year: int | None


@answer
class SimilarItems:
    """The items nearest to one, nearest first."""

    item: str
    items: tuple[SimilarItem, ...]
    model_version: str


@answer
class Item:
    """What is known about an item; `ratings` and `mean_rating` are of the training data."""

    id: str
    title: str | None
    year: int | None
    genres: tuple[str, ...] | None
    ratings: int
    mean_rating: float | None
    model_version: str


@answer
class CatalogueItem:
    """An item that a search found; `ratings` and `mean_rating` are of the training data."""

    id: str
    title: str | None
    year: int | None
    genres: tuple[str, ...] | None
    ratings: int
    mean_rating: float | None


@answer
class FoundItems:
    """Items that a search found, best match first."""

    items: tuple[CatalogueItem, ...]
    model_version: str


@answer
class FoundUser:
    """A user of the model, and the number of their training ratings."""

    id: str
    ratings: int


@answer
class FoundUsers:
    """Users whose id begins with what was searched for."""

    users: tuple[FoundUser, ...]
    model_version: str


@answer
class Genre:
    """A genre, and how many items are of it."""

    name: str
    items: int


@answer
class Genres:
    """All genres, those of the most items first."""

    genres: tuple[Genre, ...]
    model_version: str


@answer
class RelevanceRule:
    """How a user's row of the relevance head follows from their ratings."""

    mean: float
    deviation: float
    slope: float
    missing_weight: float
    regularisation: float
    exponent: float


@answer
class ModelShape:
    """Sizes of the model's tables, what it has beside them, and the scale of the ratings."""

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
    """What the quality gate said of a model, and whether it was published against that."""

    verdict: Literal["passed", "refused", "not measured"]
    reasons: tuple[str, ...] = ()
    forced: bool = False


@answer
class CurrentModel:
    """The model being served. A metric is None where it does not apply; `report` says whether there is a page."""

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
    """A published version; `serving` says whether the one who answers serves it."""

    version: str
    created_at: datetime
    preset: str
    metrics: Mapping[str, float | None]
    gate: GateRecord
    report: bool
    serving: bool


@answer
class PublishedModels:
    """Every published version that can be read, oldest first."""

    models: tuple[PublishedModel, ...]
    model_version: str


@answer
class Pass:
    """What was known after a pass of the fit; `test_rmse` is None where it was not measured."""

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
    """The version that was made the current one."""

    model_version: str


@answer
class FailedLoad:
    """A version that is wanted and could not be served; `version` is None where none is named."""

    version: str | None
    reason: str
    since: datetime


@answer
class Live:
    """The process answers."""

    status: Literal["live"] = "live"


@answer
class Ready:
    """A model is being served."""

    status: Literal["ready"] = "ready"
    model_version: str
    failed_load: FailedLoad | None = None


@answer
class FieldError:
    """One thing that is wrong with a request: where (`body.users.3`, `query.n`) and what."""

    location: str
    message: str


@answer
class Problem:
    """An error as the service tells it (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] | None = None
    user: str | None = None
    item: str | None = None
    position: int | None = None
