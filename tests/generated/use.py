"""A program that uses a client generated from the OpenAPI document; mypy checks it, and then it is run."""

import json
import sys

from generated import AuthenticatedClient
from generated.api.items import item
from generated.api.lists import top
from generated.api.models import current_model
from generated.api.predictions import predict
from generated.api.ratings import rate, ratings
from generated.models import (
    ColumnPredictions,
    ColumnsRequest,
    CurrentModel,
    PairPrediction,
    PairRequest,
    Problem,
    RatingRequest,
    StoredRating,
    TopItems,
    UserRatings,
)

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
pair = predict.sync(client=client, body=PairRequest(user="196", item="242"), intervals=True)
columns = predict.sync(client=client, body=ColumnsRequest(users=["196", "22"], items=["242", "242"]))
listed = top.sync("196", client=client, n=3, exclude=["50"])
stored = rate.sync("new", "50", client=client, body=RatingRequest(rating=4.5))
known = ratings.sync("new", client=client)
model = current_model.sync(client=client)
refused = item.sync("no such item", client=client)
assert isinstance(pair, PairPrediction)
assert isinstance(columns, ColumnPredictions)
assert isinstance(listed, TopItems)
assert isinstance(stored, StoredRating)
assert isinstance(known, UserRatings)
assert isinstance(model, CurrentModel)
assert isinstance(refused, Problem)
print(
    json.dumps(
        {
            "rating": pair.rating,
            "ratings": columns.ratings,
            "items": [one.item for one in listed.items],
            "stored": [one.rating for one in known.ratings],
            "version": model.version,
            "status": refused.status,
        }
    )
)
