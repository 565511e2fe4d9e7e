from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from app.engine.errors import NotReadyError, OrderingUnavailableError
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.engine.types import ItemFilter, RankBy
from models.checkpoint.reader import Checkpoint
from models.devices import DevicePlacement

CPU = DevicePlacement(torch.device("cpu"))


def test_nothing_is_served_before_a_model_is_loaded() -> None:
    with pytest.raises(NotReadyError):
        _ = ModelHolder(CPU).current


def test_what_an_item_shows_and_what_users_rated_come_from_the_checkpoint(loaded: Checkpoint) -> None:
    model = ServingModel(loaded)
    for row, record in enumerate(loaded.catalogue.to_pylist()):
        assert model.catalogue.title(row) == (record["id"], record["title"], record["year"])
    for user in range(len(loaded.users) + 1):
        assert model.training_ratings(user)[0].tolist() == loaded.seen.of(user).tolist()


def test_a_genre_holds_its_items(loaded: Checkpoint) -> None:
    model = ServingModel(loaded)
    for genre in ("Drama", "Film-Noir", "Nothing"):
        expected = [genre in (genres or ()) for genres in loaded.catalogue["genres"].to_pylist()]
        allowed = model.allowed(ItemFilter(genre=(genre,)))
        assert allowed.mask_I.tolist() == expected
        assert torch.cat(allowed.parts).tolist() == expected


def test_a_span_of_years_holds_no_item_whose_year_is_unknown(loaded: Checkpoint) -> None:
    model, years = ServingModel(loaded), loaded.catalogue["year"].to_pylist()
    assert None in years
    for first, last in ((1990, None), (None, 1990), (1980, 1995), (-(2**31), 2**31 - 1)):
        expected = [
            year is not None and (first is None or first <= year) and (last is None or year <= last) for year in years
        ]
        assert model.allowed(ItemFilter(year_min=first, year_max=last)).mask_I.tolist() == expected


def test_relevance_orders_lists_where_the_model_has_it(loaded: Checkpoint) -> None:
    model = ServingModel(loaded)
    assert model.order(None) is RankBy.RELEVANCE
    assert ServingModel(replace(loaded, relevance=None)).order(None) is RankBy.RATING
    with pytest.raises(OrderingUnavailableError, match="only by rating, relevance"):
        model.order(RankBy.LOWER_BOUND)
