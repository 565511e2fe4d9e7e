"""GET /items, GET /genres, GET /items/{item}, GET /items/{item}/similar. An id may hold any character, slashes too."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import EngineDep, LimitsDep
from app.api.openapi import link, problems
from app.api.parameters import ITEM, MAX_QUERY, SIMILAR, Category, IdPath, ListLength, N, Offset, YearMax, YearMin
from app.api.plain import GuardedRoute
from app.engine.documents import FoundItems, Genres, Item, SimilarItems
from app.engine.types import ItemFilter

router = APIRouter(tags=["items"], route_class=GuardedRoute)

EXAMPLES = {"242": {"value": "242"}, "50": {"value": "50"}}
ItemId = Annotated[str, IdPath(description="The item's id.", openapi_examples=EXAMPLES)]


@router.get(
    "/items",
    summary="Find items",
    responses=problems(413, 422, 500, 503, 504) | link("item", "The first of them.", item="/items/0/id"),
)
async def find_items(
    engine: EngineDep,
    limits: LimitsDep,
    query: Annotated[str, Query(max_length=MAX_QUERY, description="Words of the title, or an id. Empty: any.")] = "",
    n: N = 10,
    offset: Offset = 0,
    category: Category = None,
    year_min: YearMin = None,
    year_max: YearMax = None,
) -> FoundItems:
    """Find items whose title has every word of the query, best match first; case and accents do not matter.

    The item with exactly that id comes first, then titles that equal the query, begin with it, or have a word
    that does; among equal matches, items with more ratings. Without a query these are the most rated items.
    """
    limits.check_list(n, "query", "n")
    limits.check_offset(offset, "query", "offset")
    return await engine.catalogue.find_items(query, n, ItemFilter(category, year_min, year_max), offset)


@router.get("/genres", summary="The genres of the items", responses=problems(413, 500, 503, 504))
async def genres(engine: EngineDep) -> Genres:
    """List the genres with their numbers of items, the most frequent first. `category` takes one of them."""
    return await engine.catalogue.genres()


@router.get(SIMILAR, summary="List similar items", responses=problems(404, 413, 422, 500, 503, 504))
async def similar(
    item: ItemId,
    engine: EngineDep,
    limits: LimitsDep,
    n: ListLength = 10,
) -> SimilarItems:
    """List the items whose factors have the largest cosine with those of the item."""
    limits.check_id(item, "path", "item")
    limits.check_list(n, "query", "n")
    return await engine.lists.similar(item, n)


@router.get(ITEM, summary="Describe an item", responses=problems(404, 413, 422, 500, 503))
async def item(
    item: ItemId,
    engine: EngineDep,
    limits: LimitsDep,
) -> Item:
    """Title, year, genres and labels, if the data has them, and the number and mean of the item's training ratings."""
    limits.check_id(item, "path", "item")
    return await engine.catalogue.item(item)
