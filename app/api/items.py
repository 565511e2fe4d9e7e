"""Items: found, shown, compared, and changed in the store. An id may hold any character, slashes too."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from app.api.deps import EngineDep, LimitsDep
from app.api.encodings.json import encode
from app.api.limits import Limits
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
from app.api.plain import GuardedRoute, PlainRoute, send_answer
from app.api.request_keys import KeyHeader, read_with_key, request_key
from app.api.schemas.answers import RemovedItem, StoredItems
from app.api.schemas.requests import ItemRequest, ItemsRequest
from app.engine.documents import FoundGenres, FoundItems, Item, SimilarItems
from app.engine.engine import Engine
from app.engine.types import ItemFilter
from app.errors import InvalidRequestError
from app.ratings.records import RequestKey
from models.stored_items import LISTS, StoredItem

router = APIRouter(tags=["items"], route_class=GuardedRoute)

_items_body = TypeAdapter(ItemsRequest)
CHANGE = problems(413, 422, 500, 501, 503)

EXAMPLES = {"242": {"value": "242"}, "50": {"value": "50"}}
SHOWN = {"hidden": {"value": {"title": "Star Wars", "year": 1977, "genres": ["Sci-Fi"], "hidden": True}}}
MANY = {"two": {"value": {"items": [{"item": "50", "title": "Star Wars"}, {"item": "new", "title": "A new one"}]}}}
ItemBody = Annotated[ItemRequest, Body(openapi_examples=SHOWN)]
ItemId = Annotated[str, IdPath(description="The item's id.", openapi_examples=EXAMPLES)]


@router.get(
    "/items",
    summary="Find items",
    responses=problems(413, 422, 500, 503, 504) | link("item", "The first of them.", item="/items/0/item"),
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
    hidden: Annotated[
        bool, Query(description="Find the items that no list shows now, and not those that are shown.")
    ] = False,
) -> FoundItems:
    """Find items whose title has every word of the query, best match first; case and accents do not matter.

    The item with exactly that id comes first, then titles that equal the query, begin with it, or have a word
    that does; among equal matches, items with more ratings. Without a query these are the most rated items.
    """
    limits.check_list(n, "query", "n")
    limits.check_offset(offset, "query", "offset")
    return await engine.catalogue.find_items(query, n, ItemFilter(genre, label, year_min, year_max, hidden), offset)


@router.get("/genres", summary="The genres of the items", responses=problems(413, 500, 503, 504))
async def genres(engine: EngineDep) -> FoundGenres:
    """List the genres with their numbers of items, the most frequent first. `genre` takes them."""
    return await engine.catalogue.genres()


@router.get(SIMILAR, summary="List similar items", responses=problems(404, 413, 422, 500, 503, 504))
async def similar_items(
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
    await engine.items.change([described(StoredItem(item), body, ("body",))])
    return await engine.catalogue.item(item)


@router.patch(CHANGED_ITEM, summary="Change what is known about an item", responses=problems(404) | CHANGE)
async def patch_item(item: ItemId, body: ItemBody, engine: EngineDep, limits: LimitsDep) -> Item:
    """Change the members that are given, and leave the others as they are. 404 for an item that nothing is known of."""
    limits.check_storable(item, "path", "item")
    await engine.items.patch(item, partial(described, body=body, location=("body",)))
    return await engine.catalogue.item(item)


@router.delete(CHANGED_ITEM, summary="Take an item out of the catalogue", responses=CHANGE)
async def delete_item(item: ItemId, engine: EngineDep, limits: LimitsDep) -> RemovedItem:
    """From now on the item is in no list and no search, and unknown here; its ratings and predictions go on.

    Storing it again brings it back. Doing it twice is doing it once.
    """
    limits.check_storable(item, "path", "item")
    await engine.items.change([StoredItem(item, deleted=True)])
    return RemovedItem(item=item, model_version=engine.versions.manifest.version)


def put_items(
    body: Annotated[ItemsRequest, Body(openapi_examples=MANY)],
    idempotency_key: KeyHeader = None,
) -> None:
    """Store items, all of them or none, each in place of all that is known of it. Doing it twice is doing it once."""


async def store_items(scope: Scope, receive: Receive, send: Send) -> None:
    limits: Limits = scope["state"]["limits"]
    engine: Engine = scope["state"]["engine"]
    body, given = await read_with_key(scope, receive, _items_body)
    changed, key = await asyncio.to_thread(_changed, body, limits, given)  # many take long
    if changed:
        await engine.items.change(changed, key)
    model = engine.models.current
    unknown = await asyncio.to_thread(lambda: model.count_unknown([item.id for item in changed]))
    await send_answer(send, encode({"stored": len(changed), "unknown_items": unknown, "model_version": model.version}))


items_route = PlainRoute(
    "POST",
    "/items",
    store_items,
    put_items,
    tags=["items"],
    summary="Store many items",
    response_model=StoredItems,
    responses=problems(409) | CHANGE,
)


def _changed(body: ItemsRequest, limits: Limits, key: str | None) -> tuple[list[StoredItem], RequestKey | None]:
    """The items to store, and the key of the request. Raises InvalidRequestError for the first error."""
    if len(body.items) > limits.pairs:
        raise InvalidRequestError(("body",), f"a request holds at most {limits.pairs} items (RATECAST_MAX_PAIRS)")
    known: set[str] = set()
    changed = []
    for position, given in enumerate(body.items):
        where = ("body", "items", str(position))
        limits.check_storable(given.item, *where, "item")
        if given.item in known:
            raise InvalidRequestError((*where, "item"), "an item is stored once")
        known.add(given.item)
        changed.append(described(StoredItem(given.item), given, where))
    return changed, request_key(key, body)


def described(known: StoredItem, body: ItemRequest, location: tuple[str, ...]) -> StoredItem:
    """An item with what a body gives of it. Raises InvalidRequestError for a time that ends before it begins."""
    given = {name: getattr(body, name) for name in body.model_fields_set & {*StoredItem._fields[1:]}}
    given |= {name: tuple(given[name]) for name in LISTS if given.get(name) is not None}
    changed = known._replace(**given)
    begin, end = changed.available_from, changed.available_until
    if begin is not None and end is not None and begin >= end:
        raise InvalidRequestError((*location, "available_until"), "an item is available until after available_from")
    return changed
