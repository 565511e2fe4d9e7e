"""The types of the service's answers about users, items and ratings, and of its errors.

Each class has the name and the fields of one schema of the service's OpenAPI document; a test compares them.
`decoding` reads a field by its type. A field with a default may be absent from an answer. A member of an answer that
has no field here is ignored. Models and versions are in `model_types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, dataclass_transform

T = TypeVar("T")

RankBy = Literal["relevance", "rating", "lower_bound"]
ListOrder = Literal["relevance", "rating", "lower_bound", "popular"]
ExplainedOrder = Literal["rating", "relevance"]
Source = Literal["model", "fold_in", "item_bias", "user_bias", "global_mean"]
ListSource = Literal["model", "fold_in", "popular"]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def answer(cls: type[T]) -> type[T]:
    """Make the class a frozen dataclass with slots, whose fields are given by name."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@answer
class PairPrediction:
    """The predicted rating, within the scale of the data; `source` says what it was computed from.

    `low` and `high` are the ends of its central 90 % interval. They are None if the request did not ask for intervals,
    or if the model has none.
    """

    rating: float
    source: Source
    low: float | None = None
    high: float | None = None
    model_version: str


@answer
class ColumnPredictions:
    """A rating and a source for each pair, in the order of the request, and the ends of intervals if asked for."""

    ratings: tuple[float, ...]
    sources: tuple[Source, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None
    model_version: str


@answer
class AnonymousPrediction(PairPrediction):
    """A prediction from ratings in the request. `ratings_used` counts those of items that the model knows."""

    ratings_used: int


@answer
class AnonymousPredictions(ColumnPredictions):
    """Predictions from ratings in the request. `ratings_used` counts those of items that the model knows."""

    ratings_used: int


@answer
class ListedItem:
    """An item of a list, with its predicted rating and the score that ordered it.

    `low` and `high` are the ends of the central 90 % interval of the rating. They are None if the request did
    not ask for intervals, or if the model has none.
    """

    item: str
    rating: float
    score: float
    title: str | None
    year: int | None
    low: float | None = None
    high: float | None = None


@answer
class UserList:
    """Items to show a user, best first. `user` is None for a list made from ratings in the request.

    `rank_by` is the order that the list is in; for an unknown user it is `popular`.
    """

    user: str | None
    source: ListSource
    rank_by: ListOrder
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
    """A stored rating. It counts from now on, or a second later if it is the first of an item."""

    user: str
    item: str
    rating: float
    timestamp: int
    known_item: bool
    model_version: str


@answer
class RemovedRating:
    """A rating that was deleted."""

    user: str
    item: str
    model_version: str


@answer
class StoredRatings:
    """The number of ratings stored, and how many of them are of items that the model does not know."""

    stored: int
    unknown_items: int
    model_version: str


@answer
class ErasedUser:
    """A user whose ratings were all deleted."""

    user: str
    model_version: str


@answer
class UserRating:
    """A rating of the user; `timestamp` is None if only the training data has it."""

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
    """A user's row of the model's tables."""

    bias: float
    factors: tuple[float, ...]
    relevance_factors: tuple[float, ...] | None


@answer
class UserExport(UserRatings):
    """Everything that the service has about a user."""

    known_to_model: bool
    row: UserRow | None


@answer
class Reason:
    """A rating of the user, and its contribution to the prediction."""

    item: str
    rating: float
    contribution: float
    title: str | None


@answer
class Because:
    """What is served, as a sum: `score` is `baseline`, the contributions in `reasons`, `others` and `fitted`.

    `others` are the contributions not listed. `fitted` is what the user's fitted row adds to what follows from the
    ratings; 0 for a user who is folded in. With `rank_by` `rating`, `rating` is `score` on the scale.
    """

    user: str
    item: str
    title: str | None
    rating: float
    rank_by: ExplainedOrder
    score: float
    baseline: float
    reasons: tuple[Reason, ...]
    others: float
    fitted: float
    model_version: str


@answer
class SimilarItem:
    """An item, and the cosine between its factors and those of the item asked about."""

    item: str
    similarity: float
    title: str | None
    year: int | None


@answer
class SimilarItems:
    """The items most similar to an item, most similar first."""

    item: str
    items: tuple[SimilarItem, ...]
    model_version: str


@answer
class RatingByUser:
    """A rating of an item; `timestamp` is None if only the training data has it."""

    user: str
    rating: float
    timestamp: int | None


@answer
class RatingLevel:
    """How many ratings of an item are at a level of the scale."""

    rating: float
    ratings: int


@answer
class ItemRatings:
    """All ratings that count of an item, by level, and the latest of them."""

    item: str
    ratings: int
    mean_rating: float | None
    levels: tuple[RatingLevel, ...]
    latest: tuple[RatingByUser, ...]
    model_version: str


@answer
class LikelyUser:
    """A user, and the rating that is predicted."""

    user: str
    rating: float
    source: Source


@answer
class LikelyUsers:
    """Users who have not rated an item, those with the highest predicted rating first."""

    item: str
    users: tuple[LikelyUser, ...]
    model_version: str


@answer
class Item:
    """An item of the catalogue; `ratings` and `mean_rating` are of the training data.

    Lists show it unless it is `hidden`, outside its time, or not `known_to_model`.
    """

    item: str
    title: str | None
    year: int | None
    genres: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    ratings: int
    mean_rating: float | None
    hidden: bool
    available_from: int | None
    available_until: int | None
    known_to_model: bool
    model_version: str


@answer
class StoredItems:
    """The number of items stored, and how many of them the model does not know."""

    stored: int
    unknown_items: int
    model_version: str


@answer
class RemovedItem:
    """An item that was taken out of the catalogue."""

    item: str
    model_version: str


@answer
class CatalogueItem:
    """An item that a search found; `ratings` and `mean_rating` are of the training data."""

    item: str
    title: str | None
    year: int | None
    genres: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    ratings: int
    mean_rating: float | None


@answer
class FoundItems:
    """Items that a search found, best match first."""

    items: tuple[CatalogueItem, ...]
    model_version: str


@answer
class FoundUser:
    """A user, and the number of their training ratings; of a user who is new to the model, of their stored ratings."""

    user: str
    ratings: int


@answer
class FoundUsers:
    """Users whose id begins with the text of the search."""

    users: tuple[FoundUser, ...]
    model_version: str


@answer
class Genre:
    """A genre, and the number of items that have it."""

    name: str
    items: int


@answer
class FoundGenres:
    """All genres, the most frequent first."""

    genres: tuple[Genre, ...]
    model_version: str


@answer
class FieldError:
    """An invalid part of a request: where it is (`body.users.3`, `query.n`) and what is wrong."""

    location: str
    message: str


@answer
class Problem:
    """An error as the service describes it (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] | None = None
    user: str | None = None
    item: str | None = None
    position: int | None = None
