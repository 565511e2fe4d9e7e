"""Items: found, shown, compared, and changed in the store. An id may hold any character, slashes too."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query

from app.api.deps import EngineDep, LimitsDep
from app.api.openapi import link, problems
from app.api.parameters import (
    CHANGED_ITEM,
    ITEM,
    MAX_QUERY,
    SIMILAR,
    Genre,
    IdPath,
    Label,
    ListLength,
    N,
    Offset,
    YearMax,
    YearMin,
)
from app.api.plain import GuardedRoute
from app.api.request_keys import KeyHeader, request_key
from app.api.schemas.answers import RemovedItem, StoredItems
from app.api.schemas.requests import ItemRequest, ItemsRequest
from app.engine.documents import FoundItems, Genres, Item, SimilarItems
from app.engine.types import ItemFilter
from app.errors import InvalidRequestError
from models.stored_items import StoredItem

router = APIRouter(tags=["items"], route_class=GuardedRoute)

CHANGE = problems(413, 422, 500, 501, 503)

EXAMPLES = {"242": {"value": "242"}, "50": {"value": "50"}}
SHOWN = {"hidden": {"value": {"title": "Star Wars", "year": 1977, "genres": ["Sci-Fi"], "hidden": True}}}
MANY = {"two": {"value": {"items": [{"id": "50", "title": "Star Wars"}, {"id": "new", "title": "A new one"}]}}}
ItemBody = Annotated[ItemRequest, Body(openapi_examples=SHOWN)]
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
    genre: Genre = (),
    label: Label = (),
    year_min: YearMin = None,
    year_max: YearMax = None,
) -> FoundItems:
    """Find items whose title has every word of the query, best match first; case and accents do not matter.

    The item with exactly that id comes first, then titles that equal the query, begin with it, or have a word
    that does; among equal matches, items with more ratings. Without a query these are the most rated items.
    """
    limits.check_list(n, "query", "n")
    limits.check_offset(offset, "query", "offset")
    return await engine.catalogue.find_items(query, n, ItemFilter(genre, label, year_min, year_max), offset)


@router.get("/genres", summary="The genres of the items", responses=problems(413, 500, 503, 504))
async def genres(engine: EngineDep) -> Genres:
    """List the genres with their numbers of items, the most frequent first. `genre` takes them."""
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


@router.put(CHANGED_ITEM, summary="Store what is known about an item", responses=CHANGE)
async def put_item(item: ItemId, body: ItemBody, engine: EngineDep, limits: LimitsDep) -> Item:
    """Store an item in place of all that is known of it; what is left out is unknown. Doing it twice is doing it once.

    This worker shows it at once, the others within a second.
    """
    limits.check_storable(item, "path", "item")
    await engine.items.change([stored_item(item, body, "body")])
    return await engine.catalogue.item(item)


@router.patch(CHANGED_ITEM, summary="Change what is known about an item", responses=problems(404) | CHANGE)
async def patch_item(item: ItemId, body: ItemBody, engine: EngineDep, limits: LimitsDep) -> Item:
    """Change the members that are given, and leave the others as they are. 404 for an item that nothing is known of."""
    limits.check_storable(item, "path", "item")
    await engine.items.refresh()
    known = (await engine.catalogue.item(item)).model_dump(include=set(ItemRequest.model_fields))
    changed = ItemRequest(**known | body.model_dump(exclude_unset=True))
    await engine.items.change([stored_item(item, changed, "body")])
    return await engine.catalogue.item(item)


@router.delete(CHANGED_ITEM, summary="Take an item out of the catalogue", responses=CHANGE)
async def delete_item(item: ItemId, engine: EngineDep, limits: LimitsDep) -> RemovedItem:
    """From now on the item is in no list and no search, and unknown here; its ratings and predictions go on.

    Storing it again brings it back. Doing it twice is doing it once.
    """
    limits.check_storable(item, "path", "item")
    await engine.items.change([StoredItem(item, deleted=True)])
    return RemovedItem(item=item, model_version=engine.versions.manifest.version)


@router.post("/items", summary="Store many items", responses=problems(409) | CHANGE)
async def put_items(
    body: Annotated[ItemsRequest, Body(openapi_examples=MANY)],
    engine: EngineDep,
    limits: LimitsDep,
    idempotency_key: KeyHeader = None,
) -> StoredItems:
    """Store items, all of them or none, each in place of all that is known of it. Doing it twice is doing it once."""
    if len(body.items) > limits.pairs:
        raise InvalidRequestError(("body",), f"a request holds at most {limits.pairs} items (RATECAST_MAX_PAIRS)")
    known: set[str] = set()
    for position, item in enumerate(body.items):
        where = ("body", "items", str(position))
        limits.check_storable(item.id, *where, "id")
        if item.id in known:
            raise InvalidRequestError((*where, "id"), "an item is stored once")
        known.add(item.id)
    changed = [stored_item(item.id, item, "body", "items", str(at)) for at, item in enumerate(body.items)]
    if changed:
        await engine.items.change(changed, request_key(idempotency_key, body))
    model = engine.models.current
    unknown = model.count_unknown([item.id for item in changed])
    return StoredItems(stored=len(changed), unknown_items=unknown, model_version=model.version)


def stored_item(id_: str, body: ItemRequest, *location: str) -> StoredItem:
    """An item as it is stored. Raises InvalidRequestError for a time that ends before it begins."""
    begin, end = body.available_from, body.available_until
    if begin is not None and end is not None and begin >= end:
        raise InvalidRequestError((*location, "available_until"), "an item is available until after available_from")
    genres, labels = (None if names is None else tuple(names) for names in (body.genres, body.labels))
    return StoredItem(id_, body.title, body.year, genres, labels, body.hidden, begin, end)
