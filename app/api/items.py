"""GET /items/{item}. An id may hold any character, slashes too."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.paths import ITEM, SIMILAR
from app.deps import EngineDep, LimitsDep
from app.openapi import problems
from app.schemas import Item, SimilarItem, SimilarItems

router = APIRouter(tags=["items"])

EXAMPLES = {"242": {"value": "242"}, "50": {"value": "50"}}


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
    found = await engine.similar(item, n)
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
    found = await engine.item(item)
    return Item(
        id=found.id,
        title=found.title,
        year=found.year,
        genres=found.genres,
        ratings=found.ratings,
        mean_rating=found.mean_rating,
        model_version=found.version,
    )
