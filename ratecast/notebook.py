"""A model in a notebook: what the service answers, in this process, for frames of pandas.

The answers are made by the functions that the service makes them by, so they are the same to the bit. A model knows
no store: users are as they were at the fit; `fold_in` gives one with other ratings. Shapes: N items of a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd

from app.engine import lists, loading, predictions, recommender
from app.engine.folding import FoldedUser, fold, known_items
from app.engine.serving_model import ServingModel
from app.engine.types import SOURCES, ListQuery, Pairs, Predictions, RankBy, TopList
from models.devices import choose_placement
from models.ids import of
from models.registry.registry import open_registry

Id: TypeAlias = str | float  # a number is read as its digits
LIST_COLUMNS = ["item", "rating", "score", "title", "year"]


class Model:
    """A version. `ratecast.open_model` opens it.

    Attributes:
        version: its name.
        manifest: how it was fitted, on which data, and its figures.
    """

    def __init__(self, model: ServingModel) -> None:
        self._model = model
        self.version = model.version
        self.manifest = model.checkpoint.manifest

    @classmethod
    def open(cls, checkpoints: str, version: str | None, device: str) -> Self:
        """Open a version; see `ratecast.open_model`."""
        placement = choose_placement(device)
        with open_registry(checkpoints).local(version) as path:
            return cls(loading.load(path.parent, path.name, placement))

    def predict(self, pairs: pd.DataFrame, *, intervals: bool = False) -> pd.DataFrame:
        """The pairs in the columns `user` and `item`, with their ratings and sources, and with `low` and `high`."""
        asked = Pairs(_ids(pairs["user"]), _ids(pairs["item"]))
        users_B, items_B = self._model.users.rows(asked.users), self._model.items.rows(asked.items)
        found = predictions.predict_rows(self._model, users_B, items_B, intervals=intervals)
        return pairs.assign(**_columns(found))

    def top(self, user: Id, n: int = 10, **options: Any) -> pd.DataFrame:
        """The user's list, best first: `item`, `rating`, `score`, `title`, `year`.

        The options are those of `GET /users/{user}/top`: `rank_by`, `exclude_seen`, `genre` and so on. A list of an
        unknown user has the most rated items.
        """
        return _frame(lists.top_list(self._model, ListQuery(user=of(user), n=n, **_options(options))))

    def similar(self, item: Id, n: int = 10) -> pd.DataFrame:
        """The n items most similar to one: `item`, `similarity`, `title`, `year`. Raises UnknownItemError."""
        found = recommender.similar_items(self._model, of(item), n).items
        columns = ["item", "similarity", "title", "year"]
        return pd.DataFrame([one.model_dump() for one in found], columns=columns).astype({"year": "Int64"})

    def fold_in(self, ratings: pd.DataFrame) -> FoldedIn:
        """Somebody with the ratings in the columns `item` and `rating`, whether the model knows them or not."""
        rated = known_items(self._model, _ids(ratings["item"]), ratings["rating"].tolist())
        return FoldedIn(self._model, fold(self._model, rated))


class FoldedIn:
    """Somebody whose row follows from ratings. `Model.fold_in` gives one.

    Attributes:
        used: number of ratings that count: those of items that the model knows.
    """

    def __init__(self, model: ServingModel, folded: FoldedUser) -> None:
        self._model, self._folded = model, folded
        self.used = len(folded.rated_M)

    def predict(self, items: Iterable[Id], *, intervals: bool = False) -> pd.DataFrame:
        """The items, with their ratings and sources, and with `low` and `high`."""
        ids = _ids(items)
        rows_N = self._model.items.rows(ids)
        found = predictions.predict_folded(self._model, self._folded, rows_N, intervals=intervals)
        return pd.DataFrame({"item": ids, **_columns(found)})

    def top(self, n: int = 10, **options: Any) -> pd.DataFrame:
        """Their list, as `Model.top` gives it."""
        query = ListQuery(user=None, n=n, **_options(options))
        return _frame(lists.top_list(self._model, query, self._folded))


def _ids(values: Iterable[Id]) -> list[str]:
    return [of(value) for value in values]


def _columns(found: Predictions) -> dict[str, Any]:
    columns = {
        "rating": found.ratings_B,
        "source": pd.Categorical.from_codes(found.sources_B.astype(np.int64), pd.Index(list(map(str, SOURCES)))),
    }
    if found.intervals_2B is None:
        return columns
    return columns | dict(zip(("low", "high"), found.intervals_2B, strict=True))


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a query has them: an order by its name, and several names or ids as a tuple of texts."""
    found = dict(options)
    if found.get("rank_by") is not None:
        found["rank_by"] = RankBy(found["rank_by"])
    for name in ("genre", "label"):
        if name in found:
            found[name] = (found[name],) if isinstance(found[name], str) else tuple(found[name])
    for name in ("exclude", "only"):
        if found.get(name) is not None:
            found[name] = tuple(_ids(found[name]))
    return found


def _frame(answer: TopList) -> pd.DataFrame:
    rows = [[getattr(item, name) for name in LIST_COLUMNS] for item in answer.items]
    found = pd.DataFrame(rows, columns=LIST_COLUMNS).astype({"rating": np.float32, "score": np.float32})
    found["year"] = found["year"].astype("Int64")
    if answer.intervals is not None:
        ends = np.array(answer.intervals, np.float32).reshape(-1, 2)
        found["low"], found["high"] = ends[:, 0], ends[:, 1]
    found.attrs = {"source": str(answer.source), "rank_by": str(answer.rank_by)}
    return found
