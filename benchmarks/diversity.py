"""What `diversity` costs lists and what they gain: NDCG@10 on held-out ratings, and how unlike the ten items are.

    python -m benchmarks.diversity [--data ml-100k] [--preset bayes] [--split random:0.1]

For each value: NDCG@10 and what is lost of it, the mean cosine distance between the items of a list by their factors,
the mean number of genres in a list, and how many different items all lists show together.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from app.engine.lists import top_list
from app.engine.serving_model import ServingModel
from app.engine.types import ListQuery
from models.checkpoint.files import HELD_OUT, REPORT
from models.checkpoint.reader import read_held_out
from models.registry.directory import load, version_path
from training import metrics

VALUES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
LENGTH = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("data", "ml-100k"), ("preset", "bayes"), ("split", "random:0.1")):
        parser.add_argument(f"--{name}", default=default)
    chosen = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        options = [word for name, value in chosen.items() for word in (f"--{name}", value)]
        fit = [sys.executable, "-m", "training", "fit", *options, "--out", folder, "--quiet", "--json"]
        subprocess.run(fit, check=True, stdout=subprocess.DEVNULL)
        measure(Path(folder))


def measure(directory: Path) -> None:
    model, held_out = ServingModel(load(directory)), read_held_out(version_path(directory))
    if held_out is None:
        raise SystemExit(f"{REPORT}/{HELD_OUT} is missing: fit with held-out ratings")
    low, high = model.scorer.scale
    relevant: dict[str, set[str]] = {}
    for user, item, rating in zip(*(held_out[name].to_pylist() for name in ("user", "item", "rating")), strict=True):
        if rating >= low + 0.75 * (high - low) and user in model.users:
            relevant.setdefault(user, set()).add(item)
    print(json.dumps({"version": model.version, "users": len(relevant)}))
    print(
        "| diversity | NDCG@10 | lost | mean distance | gained | genres | items shown |\n|---|---|---|---|---|---|---|"
    )
    first: tuple[float, float] | None = None
    for diversity in VALUES:
        lists = [[item.item for item in top(model, user, diversity)] for user in relevant]
        ndcg, distance = quality(lists, [*relevant.values()]), float(np.mean([spread(model, one) for one in lists]))
        first = first or (ndcg, distance)
        genres, shown = np.mean([len(genres_of(model, one)) for one in lists]), {item for one in lists for item in one}
        lost, gained = 1 - ndcg / first[0], distance / first[1] - 1
        row = f"{diversity:g} | {ndcg:.4f} | {lost:.1%} | {distance:.3f} | {gained:.0%} | {genres:.1f} | {len(shown):,}"
        print(f"| {row} |", flush=True)


def top(model: ServingModel, user: str, diversity: float) -> list:
    return top_list(model, ListQuery(user=user, n=LENGTH, diversity=diversity)).items


def quality(lists: list[list[str]], relevant: list[set[str]]) -> float:
    """Mean NDCG@10."""
    hits = torch.zeros(len(lists), LENGTH, dtype=torch.bool)
    for row, (one, wanted) in enumerate(zip(lists, relevant, strict=True)):
        hits[row, : len(one)] = torch.tensor([item in wanted for item in one])
    return float(metrics.ndcg(hits, torch.tensor([len(wanted) for wanted in relevant])).mean())


def spread(model: ServingModel, items: list[str]) -> float:
    """Mean of 1 − cosine over all pairs of a list."""
    factors = model.orderings[model.default_order].factors(model.items.rows(items))
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    return float(1 - (factors @ factors.T)[np.triu_indices(len(items), 1)].mean())


def genres_of(model: ServingModel, items: list[str]) -> set[str]:
    return {genre for record in model.catalogue.records(model.items.rows(items)) for genre in record["genres"] or ()}


if __name__ == "__main__":
    main()
