"""GET /users/{user}/top and POST /recommend. An id may hold any character, slashes too.

Plain requests for one list are answered by `app.api.fast_path`, which gives the same answers; this route has the rest.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response

from app.api.answering import top_list, top_lists
from app.api.deps import EngineDep, LimitsDep
from app.api.encodings import json
from app.api.openapi import link, problems
from app.api.parameters import MAX_QUERY, N, YearMax, YearMin
from app.api.paths import TOP
from app.api.predict import inline
from app.api.schemas import FoundUser, FoundUsers, Recommendations, RecommendRequest, TopItems
from app.engine.types import ListQuery, RankBy
from app.errors import InvalidRequestError

router = APIRouter(tags=["lists"])

EXAMPLES = {
    "known": {"summary": "A known user", "value": "196"},
    "unknown": {"summary": "A user nobody knows: popular items", "value": "nobody"},
}
RECOMMEND_EXAMPLES = {
    "users": {"summary": "Two lists", "value": {"users": ["196", "nobody"], "n": 3}},
    "anonymous": {
        "summary": "Somebody without an id, by what they rated",
        "value": {"ratings": [{"item": "50", "rating": 5}, {"item": "181", "rating": 4}], "n": 3},
    },
    "filters": {"summary": "Dramas alone", "value": {"users": ["196"], "category": "Drama", "exclude": ["50"]}},
}
ORDER = (
    "`relevance`: what the user is likely to choose; `rating`: by predicted rating; `lower_bound`: by the lower end "
)
ORDER += "of its 90 % interval. By default `relevance` where the model has it, else `rating`."


@router.get(
    TOP,
    summary="What to show a user",
    response_model=TopItems,
    responses=problems(404, 413, 422, 500, 503, 504) | link("item", "The first item.", item="/items/0/item"),
)
async def top(
    request: Request,
    user: Annotated[str, Path(min_length=1, description="The user's id.", openapi_examples=EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
    n: Annotated[int, Query(ge=1, description="How many items; the service has an upper bound.")] = 10,
    rank_by: Annotated[RankBy | None, Query(description=ORDER)] = None,
    exclude_seen: Annotated[bool, Query(description="Leave out what the user rated.")] = True,
    exclude: Annotated[list[str], Query(description="Leave out these items too; repeatable.")] = [],  # noqa: B006
    only: Annotated[list[str] | None, Query(description="Choose from these items alone; repeatable.")] = None,
    category: Annotated[str | None, Query(description="Choose from the items of this genre alone.")] = None,
    year_min: YearMin = None,
    year_max: YearMax = None,
    intervals: Annotated[
        bool, Query(description="Say how sure the model is of each rating: `low` and `high`, of a 90 % interval.")
    ] = False,
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False,
) -> Response:
    """List the best items for a user. The rating beside each is the one that `POST /predict` gives, whatever the order.

    A user whose ratings are fresher than the model is folded in, and `source` says `fold_in`. An unknown user is shown
    the most rated items, and `source` says `popular`. Filters apply before the list is made:
    it is shorter than `n` only where fewer items are left.
    """
    limits.check_id(user, "path", "user")
    limits.check_list(n, "query", "n")
    query = ListQuery(
        user=user,
        n=n,
        rank_by=rank_by,
        exclude_seen=exclude_seen,
        exclude=tuple(exclude),
        only=None if only is None else tuple(only),
        category=category,
        year_min=year_min,
        year_max=year_max,
        intervals=intervals,
    )
    answer = await top_list(engine, query, request.receive, strict=strict)
    return Response(json.encode_list(answer), media_type=json.MEDIA_TYPE)


@router.get("/users", summary="Find users", responses=problems(413, 422, 500, 503, 504))
async def find_users(
    engine: EngineDep,
    limits: LimitsDep,
    query: Annotated[str, Query(max_length=MAX_QUERY, description="What their ids begin with; none: any.")] = "",
    n: N = 10,
) -> FoundUsers:
    """Users of the model by the beginning of their id: the one of exactly that id, then those who rated most.

    Whoever was erased, or rated for the first time after the fit, is not among them.
    """
    limits.check_list(n, "query", "n")
    found = await engine.catalogue.find_users(query, n)
    return FoundUsers(users=[FoundUser(**user._asdict()) for user in found.users], model_version=found.version)


@router.post(
    "/recommend",
    summary="What to show many users",
    response_model=Recommendations,
    responses=problems(404, 413, 422, 500, 503, 504) | link("top", "The list by itself.", user="/lists/0/user"),
)
async def recommend(
    request: Request,
    body: Annotated[RecommendRequest, Body(openapi_examples=RECOMMEND_EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False,
) -> Response:
    """A list for each user, in the order of the request and all of one model; the other members hold for every list.

    With `ratings` in place of `users` there is one list, for somebody who is known by these alone; nothing of them is
    kept.
    """
    if (body.users is None) == (body.ratings is None):
        raise InvalidRequestError(("body",), "either users or ratings are wanted")
    users = body.users or ()
    limits.check_ids(users, "body", "users")
    limits.check_list(body.n, "body", "n")
    limits.check_lists(users, body.n)
    limits.check_filter(body.exclude, "body", "exclude")
    limits.check_filter(body.only or (), "body", "only")
    queries = [
        ListQuery(
            user=user,
            n=body.n,
            rank_by=body.rank_by,
            exclude_seen=body.exclude_seen,
            exclude=tuple(body.exclude),
            only=None if body.only is None else tuple(body.only),
            category=body.category,
            year_min=body.year_min,
            year_max=body.year_max,
            intervals=body.intervals,
        )
        for user in (users if body.ratings is None else [None])
    ]
    if body.ratings is not None:
        answer, used = await engine.lists.inline(inline(body.ratings, engine, limits), queries[0])
        return Response(json.encode_lists([answer], answer.version, ratings_used=used), media_type=json.MEDIA_TYPE)
    answers = await top_lists(engine, queries, request.receive, strict=strict)
    version = answers[0].version if answers else engine.versions.manifest.version
    return Response(json.encode_lists(answers, version), media_type=json.MEDIA_TYPE)
