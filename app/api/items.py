"""GET /items, GET /genres, GET /items/{item}, GET /items/{item}/similar. An id may hold any character, slashes too."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from app.api.deps import EngineDep, LimitsDep
from app.api.openapi import link, problems
from app.api.parameters import MAX_QUERY, N, YearMax, YearMin
from app.api.paths import ITEM, SIMILAR
from app.api.schemas.items import CatalogueItem, FoundItems, Genre, Genres, Item, SimilarItem, SimilarItems
from app.engine.types import ItemDetails, ItemFilter

router = APIRouter(tags=["items"])

EXAMPLES = {"242": {"value": "242"}, "50": {"value": "50"}}


@router.get(
    "/items",
    summary="Find items",
    responses=problems(413, 422, 500, 503, 504) | link("item", "The first of them.", item="/items/0/id"),
)
async def find_items(
    engine: EngineDep,
    limits: LimitsDep,
    query: Annotated[str, Query(max_length=MAX_QUERY, description="Words of the title, or an id; none: any.")] = "",
    n: N = 10,
    category: Annotated[str | None, Query(description="Choose from the items of this genre alone.")] = None,
    year_min: YearMin = None,
    year_max: YearMax = None,
) -> FoundItems:
    """Items whose title has every word, in any case and with or without accents, the best match first.

    The item of exactly that id comes before all others, then titles that are the query, begin with it, or have a word
    that does; equal ones by their number of ratings. Without a query it is the most rated items.
    """
    limits.check_list(n, "query", "n")
    found = await engine.catalogue.find_items(query, n, ItemFilter(category, year_min, year_max))
    return FoundItems(items=[CatalogueItem(**_members(item)) for item in found.items], model_version=found.version)


@router.get("/genres", summary="The genres of the items", responses=problems(413, 500, 503, 504))
async def genres(engine: EngineDep) -> Genres:
    """Each genre with its number of items, those of the most items first. They are what `category` takes."""
    found = await engine.catalogue.genres()
    return Genres(genres=[Genre(**genre._asdict()) for genre in found.genres], model_version=found.version)


@router.get(SIMILAR, summary="Which items are like one", responses=problems(404, 413, 422, 500, 503, 504))
async def similar(
    item: Annotated[str, Path(min_length=1, description="The item's id.", openapi_examples=EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
    n: Annotated[int, Query(ge=1, description="How many items; the service has an upper bound.")] = 10,
) -> SimilarItems:
    """The items whose factors point the most nearly in the same direction, by the cosine between them."""
    limits.check_id(item, "path", "item")
    limits.check_list(n, "query", "n")
    found = await engine.lists.similar(item, n)
    items = [SimilarItem(**near._asdict()) for near in found.items]
    return SimilarItems(item=item, items=items, model_version=found.version)


@router.get(ITEM, summary="What is known about an item", responses=problems(404, 413, 422, 500, 503))
async def item(
    item: Annotated[str, Path(min_length=1, description="The item's id.", openapi_examples=EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
) -> Item:
    """Title, year and genres where the data has them, and how the item was rated in the training data."""
    limits.check_id(item, "path", "item")
    found = await engine.catalogue.item(item)
    return Item(**_members(found), model_version=found.version)


def _members(item: ItemDetails) -> dict[str, Any]:
    members = asdict(item)
    del members["version"]
    return members
