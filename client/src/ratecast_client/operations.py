"""Every endpoint as a function: its arguments in, a `Call` of its answer out. Nothing is sent here.

A parameter has the name that it has in the OpenAPI document; a test compares them all.
"""

from __future__ import annotations

import json
import operator
import secrets
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlencode

from ratecast_client import answers
from ratecast_client.answers import RankBy
from ratecast_client.decoding import MismatchError, decode
from ratecast_client.errors import UnexpectedAnswerError
from ratecast_client.exchange import Call, Request

T = TypeVar("T")
Id: TypeAlias = str | SupportsIndex
MOST_PAIRS = 100_000  # what a service takes in a request, by default
JSON = {"Content-Type": "application/json"}


def predict(user: Id, item: Id, *, strict: bool = False) -> Call[answers.PairPrediction]:
    """What the user would give the item."""
    body = {"user": id_text(user), "item": id_text(item)}
    return _ask(_post("/predict", body, strict=strict), answers.PairPrediction)


def predict_many(users: Iterable[Id], items: Iterable[Id], *, strict: bool = False) -> Call[answers.ColumnPredictions]:
    """What users would give items, pair by pair, in one request. For any number of pairs there is `predict_frame`."""
    body = {"users": id_texts(users), "items": id_texts(items)}
    return _ask(_post("/predict", body, strict=strict), answers.ColumnPredictions)


def predict_for(
    ratings: Mapping[Id, SupportsFloat], item: Id, *, strict: bool = False
) -> Call[answers.AnonymousPrediction]:
    """What somebody would give the item who is known by these ratings alone (item → rating), which are not kept."""
    body = {"item": id_text(item), "ratings": _inline(ratings)}
    return _ask(_post("/predict", body, strict=strict), answers.AnonymousPrediction)


def predict_many_for(
    ratings: Mapping[Id, SupportsFloat], items: Iterable[Id], *, strict: bool = False
) -> Call[answers.AnonymousPredictions]:
    """As `predict_for`, for many items."""
    body = {"items": id_texts(items), "ratings": _inline(ratings)}
    return _ask(_post("/predict", body, strict=strict), answers.AnonymousPredictions)


class Wishes(TypedDict, total=False):
    """What a list is to be; what is not given is left to the service.

    Attributes:
        n: how many items.
        rank_by: `relevance`, `rating` or `lower_bound`.
        exclude_seen: leave out what the user rated (the default).
        exclude: leave out these items too.
        only: choose from these items alone.
        category: choose from the items of this genre alone.
        year_min, year_max: choose from the items of these years alone.
        intervals: say of each rating how sure it is.
    """

    n: int
    rank_by: RankBy | None
    exclude_seen: bool
    exclude: Iterable[Id]
    only: Iterable[Id] | None
    category: str | None
    year_min: int | None
    year_max: int | None
    intervals: bool


def top(user: Id, *, strict: bool = False, **wishes: Unpack[Wishes]) -> Call[answers.TopItems]:
    """What to show a user, best first; `Wishes` has the other arguments."""
    query = _wishes(wishes)
    if query.get("only") == []:
        raise ValueError("only names no item")  # a query cannot say that
    return _ask(_get(f"/users/{_segment(user)}/top", strict=strict, **query), answers.TopItems)


def recommend(users: Iterable[Id], *, strict: bool = False, **wishes: Unpack[Wishes]) -> Call[answers.Recommendations]:
    """A list for each user, in one request. For any number of users there are `recommend_each`, `recommend_frame`."""
    body = {"users": id_texts(users)} | _wishes(wishes)
    return _ask(_post("/recommend", body, strict=strict), answers.Recommendations)


def recommend_for(ratings: Mapping[Id, SupportsFloat], **wishes: Unpack[Wishes]) -> Call[answers.Recommendations]:
    """One list, for somebody who is known by these ratings alone (item → rating), which are not kept."""
    body = {"ratings": _inline(ratings)} | _wishes(wishes)
    return _ask(_post("/recommend", body), answers.Recommendations)


def recommend_each(
    users: Iterable[Id], *, strict: bool = False, batch: int = 1_000, **wishes: Unpack[Wishes]
) -> Iterator[Call[tuple[answers.UserList, ...]]]:
    """A list for each of any number of users, one after the other; a request asks for at most `batch` of them."""
    body = _wishes(wishes)
    remaining = iter(id_texts(users))
    at_once = min(batch, max(1, MOST_PAIRS // wishes.get("n", 10)))
    while part := list(islice(remaining, at_once)):
        yield _lists(_ask(_post("/recommend", {"users": part} | body, strict=strict), answers.Recommendations))


def because(user: Id, item: Id, *, n: int = 10) -> Call[answers.Because]:
    """Which of the user's ratings speak for the item: the `n` with the largest parts in the prediction."""
    return _ask(_get(f"/users/{_segment(user)}/because/{_segment(item)}", n=n), answers.Because)


def similar(item: Id, *, n: int = 10) -> Call[answers.SimilarItems]:
    """The `n` items that are most like one."""
    return _ask(_get(f"/items/{_segment(item)}/similar", n=n), answers.SimilarItems)


def item(item: Id) -> Call[answers.Item]:
    """What is known about an item."""
    return _ask(_get(f"/items/{_segment(item)}"), answers.Item)


def find_items(
    query: str = "",
    *,
    n: int = 10,
    category: str | None = None,
    year_min: int | None = None,
    year_max: int | None = None,
) -> Call[answers.FoundItems]:
    """The `n` items whose title, or id, matches best; without a word, the most rated."""
    return _ask(
        _get("/items", query=query, n=n, category=category, year_min=year_min, year_max=year_max), answers.FoundItems
    )


def find_users(query: str = "", *, n: int = 10) -> Call[answers.FoundUsers]:
    """The `n` users whose id begins with a text: those who rated most."""
    return _ask(_get("/users", query=query, n=n), answers.FoundUsers)


def genres() -> Call[answers.Genres]:
    """All genres, and how many items are of each."""
    return _ask(_get("/genres"), answers.Genres)


def rate(user: Id, item: Id, rating: SupportsFloat, *, timestamp: int | None = None) -> Call[answers.StoredRating]:
    """Store what the user gave the item, in place of what was there. `timestamp` is seconds since 1970, now if None."""
    body = _given(rating=float(rating), timestamp=timestamp)
    path = f"/users/{_segment(user)}/ratings/{_segment(item)}"
    return _ask(Request("PUT", path, _encode(body), JSON), answers.StoredRating)


def unrate(user: Id, item: Id) -> Call[answers.RemovedRating]:
    """Take a rating back, also one of the training data."""
    path = f"/users/{_segment(user)}/ratings/{_segment(item)}"
    return _ask(Request("DELETE", path), answers.RemovedRating)


def ratings(user: Id) -> Call[answers.UserRatings]:
    """All ratings that count for a user."""
    return _ask(_get(f"/users/{_segment(user)}/ratings"), answers.UserRatings)


def rate_many(
    users: Iterable[Id],
    items: Iterable[Id],
    ratings: Iterable[SupportsFloat],
    *,
    timestamps: Iterable[SupportsIndex] | None = None,
    idempotency_key: str | None = None,
) -> Call[answers.StoredRatings]:
    """Store many ratings, all or none, in one request. For any number there is `rate_frame`.

    A key that was used in the last seven days is answered and not done again. By default it is a new one, so that the
    client may send the request twice.
    """
    body = _given(
        users=id_texts(users),
        items=id_texts(items),
        ratings=[float(rating) for rating in ratings],
        timestamps=None if timestamps is None else [operator.index(second) for second in timestamps],
    )
    headers = {**JSON, "Idempotency-Key": idempotency_key or secrets.token_hex(16)}
    return _ask(Request("POST", "/ratings", _encode(body), headers), answers.StoredRatings)


def export(user: Id) -> Call[answers.UserExport]:
    """All that the service holds of a user."""
    return _ask(_get(f"/users/{_segment(user)}/export"), answers.UserExport)


def erase(user: Id) -> Call[answers.ErasedUser]:
    """Remove all ratings of a user, who is answered as an unknown one from then on. Needs an admin key."""
    return _ask(Request("DELETE", f"/users/{_segment(user)}"), answers.ErasedUser)


def models() -> Call[answers.PublishedModels]:
    """Every published version, oldest first."""
    return _ask(_get("/models"), answers.PublishedModels)


def current_model() -> Call[answers.CurrentModel]:
    """The model being served: how it was fitted, on what, and how well it did."""
    return _ask(_get("/models/current"), answers.CurrentModel)


def history(version: str) -> Call[answers.History]:
    """The learning curve of a published version."""
    return _ask(_get(f"/models/{_segment(version)}/history"), answers.History)


def report(version: str) -> Call[str]:
    """The training report of a published version, a page of HTML."""
    return _ask_text(_get(f"/models/{_segment(version)}/report"))


def activate(version: str) -> Call[answers.Activated]:
    """Serve another published version. Needs an admin key. Sent once: twice could undo what somebody else did."""
    return _ask(Request("POST", f"/models/{_segment(version)}/activate", repeatable=False), answers.Activated)


def live() -> Call[answers.Live]:
    """Whether the process answers. Asked once."""
    return _ask(Request("GET", "/health/live", patient=False), answers.Live)


def ready() -> Call[answers.Ready]:
    """Whether a model is being served; UnavailableError if not. Asked once."""
    return _ask(Request("GET", "/health/ready", patient=False), answers.Ready)


def metrics() -> Call[str]:
    """The metrics of all workers together, in Prometheus' text format."""
    return _ask_text(_get("/metrics"))


def id_text(id_: Id) -> str:
    """An id as it goes over the wire. Raises TypeError for what is neither a text nor an integer."""
    return id_ if isinstance(id_, str) else str(operator.index(id_))


def id_texts(ids: Iterable[Id]) -> list[str]:
    """Ids likewise. A text is no collection of ids."""
    if isinstance(ids, str):
        raise TypeError("several ids are wanted, not one text")
    return [id_text(id_) for id_ in ids]


def _ask(request: Request, wanted: type[T]) -> Call[T]:
    answer = yield request
    try:
        return decode(wanted, json.loads(answer.body))
    except (MismatchError, ValueError) as error:
        raise unexpected(request, error) from error


def _ask_text(request: Request) -> Call[str]:
    answer = yield request
    return answer.body.decode(errors="replace")


def unexpected(request: Request, reason: Exception) -> UnexpectedAnswerError:
    """An answer of success that cannot be read."""
    return UnexpectedAnswerError(
        f"{request.method} {request.target}: not an answer of this service: {reason}", request_id=request.id
    )


def _lists(call: Call[answers.Recommendations]) -> Call[tuple[answers.UserList, ...]]:
    return (yield from call).lists


def _get(path: str, **query: Any) -> Request:
    return Request("GET", target(path, **query))


def _post(path: str, body: Mapping[str, Any], **query: Any) -> Request:
    return Request("POST", target(path, **query), _encode(body), JSON)


def target(path: str, **query: Any) -> str:
    """Path and query. What is None is left to the service."""
    pairs = {name: str(value).lower() if isinstance(value, bool) else value for name, value in _given(**query).items()}
    text = urlencode(pairs, doseq=True, quote_via=quote)
    return f"{path}?{text}" if text else path


def _segment(id_: Id) -> str:
    """An id as one segment of a path. Dots alone would be a way through it."""
    text = id_text(id_)
    if not text:
        raise ValueError("an id has at least one character")
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if not text.strip(".") else quoted


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _inline(ratings: Mapping[Id, SupportsFloat]) -> list[dict[str, Any]]:
    return [{"item": id_text(item), "rating": float(rating)} for item, rating in ratings.items()]


def _wishes(wishes: Wishes) -> dict[str, Any]:
    """The members that are given, with ids as texts."""
    given = _given(**wishes)
    return given | {name: id_texts(given[name]) for name in ("exclude", "only") if name in given}


def _encode(body: Mapping[str, Any]) -> bytes:
    """Raises ValueError for numbers that are not finite and texts that are not Unicode."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
