"""One function for each endpoint, which makes a `Call` of its arguments. Nothing is sent here.

A parameter has the name that it has in the OpenAPI document; a test compares them all.
"""

from __future__ import annotations

import json
import operator
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlencode

from ratecast_client import model_types, types
from ratecast_client.decoding import DecodingError, decode
from ratecast_client.errors import UnexpectedAnswerError
from ratecast_client.exchange import Call, Request
from ratecast_client.types import ExplainedOrder, RankBy

T = TypeVar("T")
Id: TypeAlias = str | float | SupportsIndex
Time: TypeAlias = SupportsIndex | str | datetime
EXACT = 1 << 53  # whole numbers below this are all floats; beyond it two ids would be one
MAX_PAIRS = 100_000  # in one request, by the service's default settings
JSON = {"Content-Type": "application/json"}


class PredictOptions(TypedDict, total=False):
    """Options of predictions.

    Attributes:
        strict: an unknown user or item is an error.
        intervals: add the 90 % interval of each rating, `low` and `high`.
        model_version: the version that is to answer: the current one, or that of a split.
    """

    strict: bool
    intervals: bool
    model_version: str | None


def predict(user: Id, item: Id, **options: Unpack[PredictOptions]) -> Call[types.PairPrediction]:
    """Predict the rating that the user would give the item. `PredictOptions` describes the other arguments."""
    return _ask(_post("/predict", {"user": id_text(user), "item": id_text(item)}, **options), types.PairPrediction)


def predict_many(
    users: Iterable[Id], items: Iterable[Id], **options: Unpack[PredictOptions]
) -> Call[types.ColumnPredictions]:
    """Predict the ratings of many pairs in one request. `predict_frame` takes any number of pairs."""
    body = {"users": id_texts(users), "items": id_texts(items)}
    return _ask(_post("/predict", body, **options), types.ColumnPredictions)


def predict_from_ratings(
    ratings: Mapping[Id, SupportsFloat], item: Id, **options: Unpack[PredictOptions]
) -> Call[types.AnonymousPrediction]:
    """Predict the rating of an item from the given ratings (item → rating), which are not stored."""
    body = {"item": id_text(item), "ratings": _inline(ratings)}
    return _ask(_post("/predict", body, **options), types.AnonymousPrediction)


def predict_many_from_ratings(
    ratings: Mapping[Id, SupportsFloat], items: Iterable[Id], **options: Unpack[PredictOptions]
) -> Call[types.AnonymousPredictions]:
    """Predict the ratings of many items from the given ratings (item → rating), which are not stored."""
    body = {"items": id_texts(items), "ratings": _inline(ratings)}
    return _ask(_post("/predict", body, **options), types.AnonymousPredictions)


class ListOptions(TypedDict, total=False):
    """Options of a list. The service's default applies to what is not given.

    Attributes:
        n: number of items.
        offset: how many of the best are left out; the next page begins at `offset + n`.
        rank_by: `relevance`, `rating` or `lower_bound`.
        exclude_seen: leave out the items that the user rated (the default).
        exclude: leave out these items too.
        only: list these items only.
        genre, label: list items of these only. Of names in one text, separated by commas, an item has any; of several
            texts each.
        year_min, year_max: list items of these years only.
        intervals: add the 90 % interval of each rating.
        diversity: how much items are to be unlike one another, from 0 to 1.
    """

    n: int
    offset: int
    rank_by: RankBy | None
    exclude_seen: bool
    exclude: Iterable[Id]
    only: Iterable[Id] | None
    genre: Iterable[str]
    label: Iterable[str]
    year_min: int | None
    year_max: int | None
    intervals: bool
    diversity: float


def top(
    user: Id, *, strict: bool = False, model_version: str | None = None, **options: Unpack[ListOptions]
) -> Call[types.TopItems]:
    """List items to show a user, best first. `ListOptions` describes the other arguments."""
    query = _list_options(options)
    if query.get("only") == []:
        raise ValueError("only is empty: name at least one item, or leave it out")  # a query cannot say that
    path = f"/users/{_segment(user)}/top"
    return _ask(_get(path, strict=strict, model_version=model_version, **query), types.TopItems)


def recommend(
    users: Iterable[Id], *, strict: bool = False, model_version: str | None = None, **options: Unpack[ListOptions]
) -> Call[types.Recommendations]:
    """List items for each user, in one request. `recommend_each` and `recommend_frame` take any number of users."""
    body = {"users": id_texts(users)} | _list_options(options)
    return _ask(_post("/recommend", body, strict=strict, model_version=model_version), types.Recommendations)


def recommend_from_ratings(
    ratings: Mapping[Id, SupportsFloat], *, model_version: str | None = None, **options: Unpack[ListOptions]
) -> Call[types.Recommendations]:
    """Make one list from the given ratings (item → rating), which are not stored."""
    body = {"ratings": _inline(ratings)} | _list_options(options)
    return _ask(_post("/recommend", body, model_version=model_version), types.Recommendations)


def recommend_each(
    users: Iterable[Id], *, strict: bool = False, batch: int = 1_000, **options: Unpack[ListOptions]
) -> Iterator[Call[tuple[types.UserList, ...]]]:
    """Iterate over the lists of any number of users. A request asks for at most `batch` lists."""
    body = _list_options(options)
    remaining = iter(id_texts(users))
    size = min(batch, max(1, MAX_PAIRS // options.get("n", 10)))
    while part := list(islice(remaining, size)):
        yield _lists(_ask(_post("/recommend", {"users": part} | body, strict=strict), types.Recommendations))


def because(
    user: Id, item: Id, *, n: int = 10, rank_by: ExplainedOrder = "rating", model_version: str | None = None
) -> Call[types.Because]:
    """Explain what is served of an item by the `n` of the user's ratings that contribute most to it.

    With `relevance` it is the score that orders lists by relevance, else the expected rating.
    """
    path = f"/users/{_segment(user)}/because/{_segment(item)}"
    return _ask(_get(path, n=n, rank_by=rank_by, model_version=model_version), types.Because)


def similar_items(item: Id, *, n: int = 10) -> Call[types.SimilarItems]:
    """The `n` items that are most similar to an item."""
    return _ask(_get(f"/items/{_segment(item)}/similar", n=n), types.SimilarItems)


def item_ratings(item: Id, *, n: int = 10) -> Call[types.ItemRatings]:
    """All ratings of an item, by level, and the `n` latest. Needs an admin key."""
    return _ask(_get(f"/items/{_segment(item)}/ratings", n=n), types.ItemRatings)


def item_users(item: Id, *, n: int = 10) -> Call[types.LikelyUsers]:
    """The `n` users who have not rated an item and have the highest predicted rating."""
    return _ask(_get(f"/items/{_segment(item)}/users", n=n), types.LikelyUsers)


def item(item: Id) -> Call[types.Item]:
    """An item of the catalogue."""
    return _ask(_get(f"/items/{_segment(item)}"), types.Item)


class ItemDetails(TypedDict, total=False):
    """What is known of an item. Lists show it from `available_from` until just before `available_until`, if not hidden.

    Times are as for `rate`.
    """

    title: str | None
    year: int | None
    genres: Iterable[str] | None
    labels: Iterable[str] | None
    hidden: bool
    available_from: Time | None
    available_until: Time | None


def put_item(item: Id, **details: Unpack[ItemDetails]) -> Call[types.Item]:
    """Store an item in place of all that is known of it; what is left out is unknown. Needs an admin key."""
    return _ask(Request("PUT", f"/items/{_segment(item)}", _encode(_details(details)), JSON), types.Item)


def patch_item(item: Id, **details: Unpack[ItemDetails]) -> Call[types.Item]:
    """Change what is given of an item. Needs an admin key."""
    return _ask(Request("PATCH", f"/items/{_segment(item)}", _encode(_details(details)), JSON), types.Item)


def delete_item(item: Id) -> Call[types.RemovedItem]:
    """Take an item out of all lists and searches. Needs an admin key."""
    return _ask(Request("DELETE", f"/items/{_segment(item)}"), types.RemovedItem)


def put_items(items: Mapping[Id, ItemDetails], *, idempotency_key: str | None = None) -> Call[types.StoredItems]:
    """Store many items (id → details), all or none. Needs an admin key. The key is as that of `rate_many`."""
    body = {"items": [{"item": id_text(id_)} | _details(details) for id_, details in items.items()]}
    return _ask(Request("POST", "/items", _encode(body), _keyed(idempotency_key)), types.StoredItems)


def find_items(
    query: str = "",
    *,
    n: int = 10,
    offset: int = 0,
    genre: Iterable[str] | None = None,
    label: Iterable[str] | None = None,
    year_min: int | None = None,
    year_max: int | None = None,
    hidden: bool = False,
) -> Call[types.FoundItems]:
    """The `n` items whose title or id matches the query best; without a query, those with the most ratings.

    With `hidden` these are the items that no list shows, instead of the others.
    """
    names = {name: _texts(given) for name, given in (("genre", genre), ("label", label)) if given is not None}
    years = {"year_min": year_min, "year_max": year_max}
    return _ask(_get("/items", query=query, n=n, offset=offset, hidden=hidden, **names, **years), types.FoundItems)


def find_users(query: str = "", *, n: int = 10) -> Call[types.FoundUsers]:
    """The `n` users with the most ratings among those whose id begins with the query."""
    return _ask(_get("/users", query=query, n=n), types.FoundUsers)


def genres() -> Call[types.FoundGenres]:
    """All genres, and the number of items of each."""
    return _ask(_get("/genres"), types.FoundGenres)


def rate(user: Id, item: Id, rating: SupportsFloat, *, timestamp: Time | None = None) -> Call[types.StoredRating]:
    """Store a rating, replacing an earlier one. The default of `timestamp` is now.

    It is seconds since 1970, ISO 8601 or a datetime. A time without a zone is UTC.
    """
    body = _given(rating=float(rating), timestamp=_time_member(timestamp))
    path = f"/users/{_segment(user)}/ratings/{_segment(item)}"
    return _ask(Request("PUT", path, _encode(body), JSON), types.StoredRating)


def delete_rating(user: Id, item: Id) -> Call[types.RemovedRating]:
    """Delete a rating. A rating of the training data no longer counts either."""
    path = f"/users/{_segment(user)}/ratings/{_segment(item)}"
    return _ask(Request("DELETE", path), types.RemovedRating)


def ratings(user: Id) -> Call[types.UserRatings]:
    """All ratings that count for a user."""
    return _ask(_get(f"/users/{_segment(user)}/ratings"), types.UserRatings)


def rate_many(
    users: Iterable[Id],
    items: Iterable[Id],
    ratings: Iterable[SupportsFloat],
    *,
    timestamps: Iterable[Time | None] | None = None,
    idempotency_key: str | None = None,
) -> Call[types.StoredRatings]:
    """Store many ratings in one request, all or none. `rate_frame` takes any number of ratings.

    Timestamps are as for `rate`; None is an unknown time, older than all others.

    The service does not repeat a request whose `idempotency_key` it has seen in the last seven days. By default the
    client makes a new key, so that it can send the request again safely.
    """
    body = _given(
        users=id_texts(users),
        items=id_texts(items),
        ratings=[float(rating) for rating in ratings],
        timestamps=None if timestamps is None else [*map(_time_member, timestamps)],
    )
    return _ask(Request("POST", "/ratings", _encode(body), _keyed(idempotency_key)), types.StoredRatings)


def export_user(user: Id) -> Call[types.UserExport]:
    """Export everything that the service has about a user."""
    return _ask(_get(f"/users/{_segment(user)}/export"), types.UserExport)


def delete_user(user: Id) -> Call[types.ErasedUser]:
    """Delete all ratings of a user, who is unknown from then on. Needs an admin key."""
    return _ask(Request("DELETE", f"/users/{_segment(user)}"), types.ErasedUser)


def models() -> Call[model_types.PublishedModels]:
    """Every published version, oldest first."""
    return _ask(_get("/models"), model_types.PublishedModels)


def current_model() -> Call[model_types.CurrentModel]:
    """The model being served: how it was fitted, on which data, and its metrics."""
    return _ask(_get("/models/current"), model_types.CurrentModel)


def history(version: str) -> Call[model_types.History]:
    """The learning curve of a published version."""
    return _ask(_get(f"/models/{_segment(version)}/history"), model_types.History)


def report(version: str) -> Call[str]:
    """The training report of a published version, as an HTML page."""
    return _ask_text(_get(f"/models/{_segment(version)}/report"))


def compare(version: str, *, against: str | None = None) -> Call[model_types.ComparedModels]:
    """Compare two published versions on ratings that neither was fitted on. `against` is the served one by default."""
    return _ask(_get("/models/compare", version=version, against=against), model_types.ComparedModels)


def activate(version: str, *, force: bool = False) -> Call[model_types.Activated]:
    """Activate a published version. Needs an admin key, and `force` for a version that has a `concern`.

    The client does not retry it: a second attempt could undo what somebody else has activated since.
    """
    path = target(f"/models/{_segment(version)}/activate", force=force)
    return _ask(Request("POST", path, idempotent=False), model_types.Activated)


def rollback(*, force: bool = False) -> Call[model_types.Activated]:
    """Activate the version that was served before the current one. Needs an admin key; not retried, as `activate`."""
    return _ask(Request("POST", target("/models/rollback", force=force), idempotent=False), model_types.Activated)


def last_fit() -> Call[model_types.LastFitAnswer]:
    """How the last fit ended, why if nothing was published, and when the next begins. Needs an admin key."""
    return _ask(_get("/models/last-fit"), model_types.LastFitAnswer)


def settings() -> Call[model_types.ServiceSettings]:
    """Every setting of the service with its value, without secrets. Needs an admin key."""
    return _ask(_get("/settings"), model_types.ServiceSettings)


def quality(*, days: int = 7) -> Call[model_types.Quality]:
    """The errors of predictions for the ratings that came in during the last days, by version and source."""
    return _ask(_get("/quality", days=days), model_types.Quality)


def split(version: str, share: SupportsFloat, *, force: bool = False) -> Call[model_types.StartedSplit]:
    """Let a published version answer a share of the users, beside the current one. Needs an admin key.

    `force` is needed for a version that has a `concern`.
    """
    body = _encode({"version": version, "share": float(share)})
    return _ask(Request("PUT", target("/models/split", force=force), body, JSON), model_types.StartedSplit)


def end_split(*, version: str | None = None, force: bool = False) -> Call[model_types.Activated]:
    """End the split, if there is one. `version`, by default the current one, answers all users then."""
    path = target("/models/split", version=version, force=force)
    return _ask(Request("DELETE", path), model_types.Activated)


def ratings_summary(*, days: int = 30) -> Call[model_types.RatingsSummary]:
    """What is in the store: counts, ratings of the last days, and what has come since the fit. Needs an admin key."""
    return _ask(_get("/ratings", days=days), model_types.RatingsSummary)


def live() -> Call[model_types.Live]:
    """Check that the process is alive. The client does not retry it."""
    return _ask(Request("GET", "/health/live", retried=False), model_types.Live)


def ready() -> Call[model_types.Ready]:
    """Check that a model is being served; raises UnavailableError if not. The client does not retry it."""
    return _ask(Request("GET", "/health/ready", retried=False), model_types.Ready)


def metrics() -> Call[str]:
    """The metrics of all workers, summed, in the text format of Prometheus."""
    return _ask_text(_get("/metrics"))


def id_text(id_: Id) -> str:
    """An id as a string; the service reads 21.0 as 21. Raises TypeError if it is neither a string nor a number.

    Raises ValueError for a float that is not finite, or so large that it may have lost digits.
    """
    if isinstance(id_, str):
        return id_
    if not isinstance(id_, float):
        return str(operator.index(id_))
    if not abs(id_) < EXACT:
        raise ValueError("an id is a number that a float does not hold: give it as a string or an integer")
    return format(Decimal(repr(float(id_))), "f")


def id_texts(ids: Iterable[Id]) -> list[str]:
    """Ids as strings. Raises TypeError for a single string, which is no collection of ids."""
    if isinstance(ids, str):
        raise TypeError("expected several ids, not one string")
    return [id_text(id_) for id_ in ids]


def _ask(request: Request, answer_type: type[T]) -> Call[T]:
    answer = yield request
    try:
        return decode(answer_type, json.loads(answer.body))
    except (DecodingError, ValueError) as error:
        raise unexpected(request, error) from error


def _ask_text(request: Request) -> Call[str]:
    answer = yield request
    return answer.body.decode(errors="replace")


def unexpected(request: Request, reason: Exception) -> UnexpectedAnswerError:
    """The error for a successful answer that cannot be read."""
    return UnexpectedAnswerError(
        f"{request.method} {request.target}: the answer is not one of a Ratecast service: {reason}",
        request_id=request.id,
    )


def _lists(call: Call[types.Recommendations]) -> Call[tuple[types.UserList, ...]]:
    return (yield from call).lists


def _keyed(idempotency_key: str | None) -> dict[str, str]:
    return {**JSON, "Idempotency-Key": idempotency_key or secrets.token_hex(16)}


def _get(path: str, **query: Any) -> Request:
    return Request("GET", target(path, **query))


def _post(path: str, body: Mapping[str, Any], **query: Any) -> Request:
    return Request("POST", target(path, **query), _encode(body), JSON)


def target(path: str, **query: Any) -> str:
    """Path and query. Parameters that are None are left out."""
    pairs = {name: str(value).lower() if isinstance(value, bool) else value for name, value in _given(**query).items()}
    text = urlencode(pairs, doseq=True, quote_via=quote)
    return f"{path}?{text}" if text else path


def _segment(id_: Id) -> str:
    """An id as one segment of a path. An id of dots alone is escaped, because it would lead to another path."""
    text = id_text(id_)
    if not text:
        raise ValueError("the id is empty: an id has at least one character")
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if not text.strip(".") else quoted


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _time_member(time: Time | None) -> int | str | None:
    """A time as a request has it. Raises TypeError for what is none."""
    if time is None or isinstance(time, str):
        return time
    return time.isoformat() if isinstance(time, datetime) else operator.index(time)


def _details(details: ItemDetails) -> dict[str, Any]:
    """The members that are given; None is one too."""
    given: dict[str, Any] = dict(details)
    times = {name: _time_member(given[name]) for name in ("available_from", "available_until") if name in given}
    lists = {name: list(given[name]) for name in ("genres", "labels") if given.get(name) is not None}
    return given | times | lists


def _inline(ratings: Mapping[Id, SupportsFloat]) -> list[dict[str, Any]]:
    return [{"item": id_text(item), "rating": float(rating)} for item, rating in ratings.items()]


def _list_options(options: ListOptions) -> dict[str, Any]:
    """The options that are given, with ids as strings."""
    given = _given(**options)
    ids = {name: id_texts(given[name]) for name in ("exclude", "only") if name in given}
    return given | ids | {name: _texts(given[name]) for name in ("genre", "label") if name in given}


def _texts(names: Iterable[str]) -> list[str]:
    """Texts as a list. A single one is one, not its letters."""
    return [names] if isinstance(names, str) else [*names]


def _encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises ValueError for numbers that are not finite and strings that are not valid Unicode."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
