"""The obvious implementation: FastAPI, pydantic models, dictionaries of ids and a call of the nn.Module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
from fastapi import FastAPI
from pydantic import BaseModel, Field

from benchmarks.all_products import all_products
from models.registry.directory import load

loaded = load(Path(os.environ["RATECAST_CHECKPOINTS"]))
USERS, ITEMS = (
    {id_: row for row, id_ in enumerate(vocabulary.ids.to_pylist())} for vocabulary in (loaded.users, loaded.items)
)
LOW, HIGH = loaded.manifest.model.rating_min, loaded.manifest.model.rating_max
app = FastAPI()


class Request(BaseModel):
    user: str | None = None
    item: str | None = None
    users: list[str] | None = None
    items: list[str] | None = None


class Answer(BaseModel):
    ratings: list[float]
    model_version: str


class Listed(BaseModel):
    item: str
    rating: float
    title: str | None


@app.post("/predict")
def predict(body: Request) -> Answer:
    users = body.users if body.users is not None else [body.user]
    items = body.items if body.items is not None else [body.item]
    users_B = torch.tensor([USERS.get(id_, len(USERS)) for id_ in users])
    items_B = torch.tensor([ITEMS.get(id_, len(ITEMS)) for id_ in items])
    with torch.inference_mode():
        ratings_B = loaded.model(users_B, items_B).clamp(LOW, HIGH)
    return Answer(ratings=ratings_B.tolist(), model_version=loaded.version)


@app.get("/users/{user}/top")
def top(user: str, n: Annotated[int, Field(ge=1, le=1000)] = 10) -> list[Listed]:
    row = USERS.get(user, len(USERS))
    with torch.inference_mode():
        scores_I = all_products(loaded.model, torch.tensor([row]))[0]
        scores_I[loaded.seen.of(row).long()] = -torch.inf
        best = scores_I.topk(n)
    rows, ratings = best.indices.tolist(), best.values.clamp(LOW, HIGH).tolist()
    ids, titles = loaded.catalogue["id"], loaded.catalogue["title"]
    return [
        Listed(item=ids[item].as_py(), rating=rating, title=titles[item].as_py())
        for item, rating in zip(rows, ratings, strict=True)
    ]
