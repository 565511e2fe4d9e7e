"""Lists of items: `GET /users/{user}/top` and `POST /recommend`, plain routes. `GET /users` finds users."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from app.api.deps import EngineDep, LimitsDep
from app.api.encodings import json
from app.api.limits import Limits
from app.api.openapi import link, problems
from app.api.parameters import MAX_QUERY, TOP, IdPath, ListParameters, N, RecommendParameters
from app.api.plain import (
    Errors,
    GuardedRoute,
    PlainRoute,
    client_gone,
    raise_if,
    read_document,
    read_parameters,
    send_answer,
)
from app.api.predict import inline
from app.api.schemas.answers import Recommendations, TopItems
from app.api.schemas.requests import RecommendRequest
from app.engine.documents import FoundUsers
from app.engine.engine import Engine
from app.engine.types import ListQuery, ListSource, TopList
from app.errors import InvalidRequestError
from app.middleware.access import BY_NAME, Access, needs
from app.middleware.reporting import VERSION
from models.errors import UnknownUserError

router = APIRouter(tags=["lists"], route_class=GuardedRoute)

QUICK_USERS = 500  # of a request: 1 ms
TOO_SHORT = "String should have at least 1 character"  # as pydantic says it
EXAMPLES = {
    "known": {"summary": "A known user", "value": "196"},
    "unknown": {"summary": "An unknown user: popular items", "value": "nobody"},
}
_recommend_body = TypeAdapter(RecommendRequest)
RECOMMEND_EXAMPLES = {
    "users": {"summary": "Two lists", "value": {"users": ["196", "nobody"], "n": 3}},
    "anonymous": {
        "summary": "A user without an id, from their ratings",
        "value": {"ratings": [{"item": "50", "rating": 5}, {"item": "181", "rating": 4}], "n": 3},
    },
    "filters": {"summary": "Dramas alone", "value": {"users": ["196"], "genre": ["Drama"], "exclude": ["50"]}},
}


def top(
    user: Annotated[str, IdPath(description="The user's id.", openapi_examples=EXAMPLES)],
    parameters: Annotated[ListParameters, Query()],
) -> None:
    """List the best items for a user. The rating of each is that of `POST /predict`, whatever the order.

    `score` is what ordered the list, and `rank_by` says what that is. Pages follow one another without gap or
    repetition while the model, the user's ratings and the filters stay.

    A user whose ratings are newer than the model is folded in, and `source` is `fold_in`. An unknown user gets
    the most rated items, and `source` and `rank_by` say `popular`. Filters apply before the list is made:
    it is shorter than `n` only if fewer items are left.
    """


async def answer_top(scope: Scope, receive: Receive, send: Send) -> None:
    limits: Limits = scope["state"]["limits"]
    engine: Engine = scope["state"]["engine"]
    user, query = scope["path_params"]["user"], scope["query_string"]
    errors: Errors = []
    if not user:
        errors.append({"type": "string_too_short", "loc": ("path", "user"), "msg": TOO_SHORT})
    asked = {**read_parameters(ListParameters, query, errors)} if query else {}
    raise_if(errors)
    limits.check_id(user, "path", "user")
    limits.check_list(asked.get("n", 0), "query", "n")
    limits.check_offset(asked.get("offset", 0), "query", "offset")
    strict, version = asked.pop("strict", False), asked.pop("model_version", None)
    answer = await engine.lists.top(ListQuery(user=user, **asked), partial(client_gone, receive), version)
    _note_version(scope, engine, answer.version)
    if strict:
        _refuse_popular(answer)
    await send_answer(send, json.encode_list(answer))


top_route = PlainRoute(
    "GET",
    TOP,
    answer_top,
    top,
    tags=["lists"],
    summary="List items for a user",
    response_model=TopItems,
    responses=problems(404, 413, 422, 500, 503, 504) | link("item", "The first item.", item="/items/0/item"),
)


@router.get("/users", summary="Find users", responses=problems(413, 422, 500, 503, 504))
async def find_users(
    engine: EngineDep,
    limits: LimitsDep,
    query: Annotated[str, Query(max_length=MAX_QUERY, description="The beginning of the id. Empty: any.")] = "",
    n: N = 10,
) -> FoundUsers:
    """Find users by the beginning of their id: first the exact id, then those with the most ratings.

    Users who rated for the first time after the fit are found too, with the number of their stored ratings: among the
    1,000 users who changed last. Deleted users are not found.
    """
    limits.check_list(n, "query", "n")
    return await engine.catalogue.find_users(query, n)


@needs(Access.READ)
def recommend(
    body: Annotated[RecommendRequest, Body(openapi_examples=RECOMMEND_EXAMPLES)],
    parameters: Annotated[RecommendParameters, Query()],
) -> None:
    """Make a list for each user, in the order of the request and from one model. Other members apply to every list.

    With `ratings` instead of `users` the answer is one list, made from these ratings alone. They are not
    stored.
    """


async def answer_recommend(scope: Scope, receive: Receive, send: Send) -> None:
    limits: Limits = scope["state"]["limits"]
    engine: Engine = scope["state"]["engine"]
    errors: Errors = []
    query = scope["query_string"]
    parameters = read_parameters(RecommendParameters, query, errors) if query else {}
    strict, wanted = parameters.get("strict", False), parameters.get("model_version")
    body = await read_document(receive, _recommend_body, scope[BY_NAME].get(b"content-type", b""), limits, errors)
    queries = await asyncio.to_thread(_queries, body, limits) if is_large(body) else _queries(body, limits)
    if body.ratings is not None:
        answer, used = await engine.lists.inline(inline(body.ratings, engine, limits), queries[0], wanted)
        _note_version(scope, engine, answer.version)
        await send_answer(send, json.encode_lists([answer], answer.version, ratings_used=used))
        return
    answers = await engine.lists.top_many(queries, partial(client_gone, receive), wanted)
    if strict:
        for position, answer in enumerate(answers):
            _refuse_popular(answer, position)
    version = answers[0].version if answers else engine.versions.manifest.version
    _note_version(scope, engine, version)
    encode = partial(json.encode_lists, answers, version)
    await send_answer(send, await asyncio.to_thread(encode) if is_large(body) else encode())


def _note_version(scope: Scope, engine: Engine, version: str) -> None:
    """For the metrics of a split: which version answers."""
    if engine.models.beside is not None:
        scope[VERSION] = version


def is_large(body: RecommendRequest) -> bool:
    """Whether so much is asked that other requests should not wait for it."""
    return len(body.users or ()) + len(body.exclude) + len(body.only or ()) + len(body.ratings or ()) > QUICK_USERS


def _queries(body: RecommendRequest, limits: Limits) -> list[ListQuery]:
    """What a body asks for, each list by itself; the lists share their filters. Raises InvalidRequestError."""
    if (body.users is None) == (body.ratings is None):
        raise InvalidRequestError(("body",), "give either users or ratings")
    users = body.users or ()
    limits.check_ids(users, "body", "users")
    limits.check_list(body.n, "body", "n")
    limits.check_offset(body.offset, "body", "offset")
    limits.check_lists(users, body.offset + body.n)
    limits.check_filter(body.exclude, "body", "exclude")
    limits.check_filter(body.only or (), "body", "only")
    options = body.model_dump(exclude={"users", "ratings"})
    options |= {name: tuple(options[name]) for name in ("genre", "label", "exclude")}
    options["only"] = None if body.only is None else tuple(body.only)
    return [ListQuery(user=user, **options) for user in (users if body.ratings is None else (None,))]


recommend_route = PlainRoute(
    "POST",
    "/recommend",
    answer_recommend,
    recommend,
    tags=["lists"],
    summary="List items for many users",
    response_model=Recommendations,
    responses=problems(404, 413, 422, 500, 503, 504) | link("top", "The list by itself.", user="/lists/0/user"),
)


def _refuse_popular(answer: TopList, position: int | None = None) -> None:
    """Raise UnknownUserError if a list's source says that its user is unknown."""
    if answer.source is ListSource.POPULAR:
        raise UnknownUserError(answer.user or "", position)
