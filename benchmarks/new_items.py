"""Items that the fit has not seen: how near predictions come to a fit that has, and what the lists gain from them.

    python -m benchmarks.new_items --data SOURCE [--columns user=…,item=…] [--preset als] [--seeds 3] [--ridges 5]

A tenth of the items, drawn with each seed, is new: the model is fitted to the ratings of the others. Half of the
ratings of each new item are predicted; of the other half the first 0, 1, 2, 5, 10, 20 and all, in an order of chance,
are what the service has been told. "unknown" is the answer for an unknown item, "fitted" that of a fit to everything
but what is predicted. Without genres, labels and years 0 ratings are the same as an unknown item. The lists are
those of relevance. A tenth of the ratings of the other items is held out too; of each user who gave a high rating
among these, or among a tenth of those of the new items, NDCG@10 over the items that they have not rated: without new
items, with them after 0, 5 and all ratings, and of the fit to everything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import parquet

from models import attributes
from models.checkpoint.reader import Checkpoint
from models.new_items import NewItemRows, NewItemSolver, Raters, RatingsOfNew
from models.registry.directory import load
from training import metrics
from training.data import dataset
from training.data.dataset import Dataset
from training.data.fetch import default_cache
from training.options import SourceOptions

TOLD, NEW, LENGTH = (0, 1, 2, 5, 10, 20, 1_000_000), 0.1, 10
IN_LISTS = (0, 5, 1_000_000)
Rows = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--columns")
    parser.add_argument("--preset", default="als")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ridges", type=float, nargs="+", default=[attributes.RIDGE])
    chosen = parser.parse_args()
    options = SourceOptions(
        columns=dict(part.split("=") for part in chosen.columns.split(",")) if chosen.columns else {}
    )
    source = dataset.load([chosen.data], options, rng=np.random.default_rng(0), cache=default_cache())
    names = ["unknown", *(str(count) if count < TOLD[-1] else "all" for count in TOLD), "fitted"]
    print(f"| ridge | {' | '.join(names)} | NDCG@10 without | 0 | 5 | all | fitted |\n|{'---|' * (len(names) + 6)}")
    found: dict[float, list[list[float]]] = {ridge: [] for ridge in chosen.ridges}
    for seed in range(1, 1 + chosen.seeds):  # seed 0 is what the constants were chosen by
        with TemporaryDirectory() as folder:
            split = Split(source, seed)
            old = split.fitted(chosen.preset, Path(folder), split.old_N)
            full = split.fitted(chosen.preset, Path(folder), split.old_N | split.told_N)
            for ridge in chosen.ridges:
                attributes.RIDGE = ridge
                found[ridge].append(split.measured(old, full))
    for ridge, rows in found.items():
        print(f"| {ridge:g} | {' | '.join(f'{value:.4f}' for value in np.mean(rows, axis=0))} |", flush=True)


class Split:
    """Ratings of items that the fit sees, those of new items that are told, and those that are predicted."""

    def __init__(self, source: Dataset, seed: int) -> None:
        self.source, ratings = source, source.ratings
        rng = np.random.default_rng([seed, 10])
        self.new_I = np.zeros(ratings.items, bool)
        self.new_I[rng.choice(ratings.items, int(NEW * ratings.items), replace=False)] = True
        of_new_N = self.new_I[ratings.items_N]
        held_N = ~of_new_N & (rng.random(len(ratings)) < NEW)
        self.old_N = ~of_new_N & ~held_N
        self.order_N = rng.permutation(np.flatnonzero(of_new_N))
        self.order_N = self.order_N[np.argsort(ratings.items_N[self.order_N], kind="stable")]
        begins = np.r_[True, np.diff(ratings.items_N[self.order_N]) != 0]
        place = np.arange(len(self.order_N)) - np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
        self.told_N = np.zeros(len(ratings), bool)
        self.told_N[self.order_N[place % 2 == 1]] = True
        self.test_N = of_new_N & ~self.told_N
        self.listed_N = held_N | (self.test_N & (rng.random(len(ratings)) < NEW / np.mean(self.test_N[of_new_N])))
        self.place = dict(zip(self.order_N.tolist(), (place // 2).tolist(), strict=True))

    def fitted(self, preset: str, folder: Path, rows_N: npt.NDArray[np.bool_]) -> Checkpoint:
        """The published model of a preset for some of the ratings."""
        ratings = self.source.ratings.take(np.flatnonzero(rows_N))
        columns = {
            "user": ratings.user_ids.take(pa.array(ratings.users_N)),
            "item": ratings.item_ids.take(pa.array(ratings.items_N)),
            "rating": pa.array(ratings.ratings_N),
        }
        parquet.write_table(pa.table(columns), folder / "ratings.parquet")
        described = []
        if self.source.items is not None:
            parquet.write_table(self.source.items, folder / "items.parquet")
            described = ["--items", folder / "items.parquet"]
        data = ["--data", folder / "ratings.parquet", *described, "--preset", preset]
        command = [sys.executable, "-m", "training", "fit", *data, "--out", folder / "checkpoints", "--quiet"]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return load(folder / "checkpoints")

    def measured(self, old: Checkpoint, full: Checkpoint) -> list[float]:
        """A row of the table."""
        ratings, scale = self.source.ratings, self.source.scale
        test = ratings.take(np.flatnonzero(self.test_N))
        users_B = old.users.rows(ratings.user_ids.take(pa.array(test.users_N)))
        unknown_B = np.full(len(users_B), len(old.items))
        solver = NewItemSolver.learn(old.model, old.prior, old.relevance, old.catalogue, old.seen)
        errors, heads = [rmse(predicted(old, users_B, unknown_B), test.ratings_N, scale)], []
        for count in TOLD:
            rows = self._solved(solver, old, count)
            places_I = np.cumsum(self.new_I) - 1
            at_B = places_I[test.items_N]
            model = old.model
            found_B = float(model.mean) + model.user_bias[users_B].numpy() + rows.bias_N[at_B]
            found_B += (model.user_factors[users_B].numpy() * rows.factors_NF[at_B]).sum(1)
            errors.append(rmse(found_B, test.ratings_N, scale))
            if count in IN_LISTS:
                heads.append(rows.head_NG)
        ids = ratings.item_ids.take(pa.array(test.items_N)), ratings.user_ids.take(pa.array(test.users_N))
        errors.append(rmse(predicted(full, full.users.rows(ids[1]), full.items.rows(ids[0])), test.ratings_N, scale))
        if old.relevance is None or full.relevance is None:
            return [*errors, *[np.nan] * (len(IN_LISTS) + 2)]
        return [*errors, *(self._ndcg(old, one) for one in (None, *heads)), self._ndcg(full, None)]

    def _solved(self, solver: NewItemSolver, old: Checkpoint, count: int) -> NewItemRows:
        """The rows of the new items after some ratings of each."""
        ratings, new = self.source.ratings, np.flatnonzero(self.new_I)
        told = [row for row in self.order_N.tolist() if self.told_N[row] and self.place[row] < count]
        taken = ratings.take(np.array(told, np.int64))
        users_M = old.users.rows(ratings.user_ids.take(pa.array(taken.users_N)))
        counts_N = np.bincount(taken.items_N, minlength=ratings.items)[new]
        head = old.relevance
        raters = Raters(
            old.model.user_factors[users_M].numpy(),
            old.model.user_bias[users_M].numpy(),
            None if head is None else head.user_factors[users_M].numpy(),
        )
        offsets = np.concatenate([[0], np.cumsum(counts_N)])
        of_new = RatingsOfNew(offsets, np.arange(len(users_M)), taken.ratings_N.astype(np.float64))
        return solver.solve(self._described(new), raters, of_new)

    def _described(self, new: Rows) -> pa.Table:
        """What the source says of the new items."""
        ids = self.source.ratings.item_ids.take(pa.array(new))
        schema = pa.schema([("year", pa.int32()), ("genres", pa.list_(pa.string())), ("labels", pa.list_(pa.string()))])
        if self.source.items is None:
            return pa.table([pa.nulls(len(ids), field.type) for field in schema], schema)
        rows = pc.index_in(ids, self.source.items["id"].combine_chunks())
        columns = [
            self.source.items[field.name].combine_chunks().take(rows)
            if field.name in self.source.items.column_names
            else pa.nulls(len(ids), field.type)
            for field in schema
        ]
        return pa.table(columns, schema.names)

    def _ndcg(self, model: Checkpoint, head_NG: npt.NDArray[np.float32] | None) -> float:
        """NDCG@10 of a model's lists with some rows of new items, or with those alone that it was fitted to."""
        ratings, (low, high), head = self.source.ratings, self.source.scale, model.relevance
        if head is None:
            return np.nan
        ids = [*model.items.ids.to_pylist()]
        items_JG = head.item_factors[:-1].numpy()
        if head_NG is not None:
            ids += ratings.item_ids.take(pa.array(np.flatnonzero(self.new_I))).to_pylist()
            items_JG = np.concatenate([items_JG, head_NG])
        place = {id_: at for at, id_ in enumerate(ids)}
        place_I = np.array([place.get(id_, -1) for id_ in ratings.item_ids.to_pylist()])
        told, relevant = (
            self._by_user(self.told_N),
            self._by_user(self.listed_N & (ratings.ratings_N >= low + 0.75 * (high - low))),
        )
        users = [user for user in relevant if str(ratings.user_ids[user]) in model.users]
        hits = torch.zeros(len(users), LENGTH, dtype=torch.bool)
        for at, user in enumerate(users):
            row = model.users.row(str(ratings.user_ids[user]))
            scores_J = items_JG @ head.user_factors[row].numpy()
            scores_J[model.seen.of(row).numpy()] = -np.inf
            scores_J[[item for item in place_I[told.get(user, [])] if item >= 0]] = -np.inf
            wanted = set(place_I[relevant[user]].tolist()) - {-1}
            hits[at] = torch.tensor([item in wanted for item in np.argsort(-scores_J)[:LENGTH].tolist()])
        return float(metrics.ndcg(hits, torch.tensor([len(relevant[user]) for user in users])).mean())

    def _by_user(self, rows_N: npt.NDArray[np.bool_]) -> dict[int, list[int]]:
        """The items of some ratings."""
        found: dict[int, list[int]] = {}
        for user, item in zip(self.source.ratings.users_N[rows_N], self.source.ratings.items_N[rows_N], strict=True):
            found.setdefault(int(user), []).append(int(item))
        return found


def predicted(loaded: Checkpoint, users_B: Rows, items_B: Rows) -> npt.NDArray[np.float32]:
    """The model's predictions, unclipped."""
    found: npt.NDArray[np.float32] = loaded.model(torch.from_numpy(users_B), torch.from_numpy(items_B)).numpy()
    return found


def rmse(found_B: npt.NDArray[np.float32], ratings_B: npt.NDArray[np.float32], scale: tuple[float, float]) -> float:
    return float(np.sqrt(np.mean((np.clip(found_B, *scale) - ratings_B) ** 2)))


if __name__ == "__main__":
    main()
