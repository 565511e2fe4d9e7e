"""A FastAPI endpoint with the service's request model that decodes columns and encodes them again."""

from __future__ import annotations

from fastapi import FastAPI

from app.api.schemas.requests import ColumnsRequest

app = FastAPI()


@app.post("/predict")
async def echo(body: ColumnsRequest) -> ColumnsRequest:
    return body
