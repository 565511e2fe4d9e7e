"""How well lists are ordered: by the relevance heads of our presets, by predicted ratings, by EASE, by implicit's ALS.

    python -m benchmarks.relevance [--splits random glocalk] [--presets als bayes] [--set KEY=VALUE]… [--no-peers]
                                   [--data-dir DIR] [--peers-python PATH] [--out FILE]

Settings are chosen on the splits `inner` (of the training part of `random`, seed 0, four tenths held out in turn) and
`inner-1m` (of that of `glocalk`, a random tenth), which see no test part. The other splits, NDCG@10 and the environment
of the peers are those of `benchmarks/accuracy.py`. Lists are of all items without a training rating by the user,
ordered by:

- popularity: the number of training ratings;
- r̂: the predicted rating;
- lower bound: r̂ − z · sd with z = 1.645. Of the rating, sd² is the whole variance; of its expectation, sd² is what is
  not known of the user's and the item's rows, without the noise of a rating;
- head: the relevance head, as the job fits it after the rating model;
- EASE, and a sparse form of it: `benchmarks/closed_forms.py`, over all items and of full rank. Its λ, and whether it is
  given what was rated, what was rated as relevant, or the targets of the relevance head, is what is best on a tenth of
  the fold's own training part;
- implicit: its AlternatingLeastSquares, with its defaults and as tuned on each of the inner splits.

Seconds are the median over fits: for r̂ and the bounds those of the rating model, for a head those of the head alone.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy import (
    PEERS,
    SPLITS,
    Fold,
    cpu_model,
    divide,
    emit,
    environment,
    listed,
    make_fold,
    ndcg10,
    read,
    read_folds,
)
from benchmarks.all_products import all_products
from benchmarks.closed_forms import CLOSED_FORMS, RIDGES, ClosedForm
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from training.config import load_preset
from training.data.interactions import Int64s, Interactions
from training.evaluation.evaluate import make_test_set
from training.evaluation.lists import LENGTH
from training.fit.loop import fit
from training.fit.relevance import RelevanceFit
from training.fit.relevance_settings import RelevanceSettings
from training.fit.trainer import TrainingSet
from training.fit.weighted_factors import rating_targets

Z = 1.645
INNER = {"inner": ("random", (9, 0, 3, 6)), "inner-1m": ("glocalk", (9,))}  # of which training part, which tenths
TITLES = {
    "implicit-als": "implicit ALS, defaults",
    "implicit-als-tuned": "implicit ALS, tuned on `inner`",
    "implicit-als-tuned-1m": "implicit ALS, tuned on `inner-1m`",
}
USERS_AT_ONCE = 1000
Score = Callable[[Tensor], Tensor]  # users (B,) to scores of all items (B, I)
VALUES = ("clicks", "relevant", "targets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="+", choices=[*SPLITS, *INNER], default=["random"])
    parser.add_argument("--presets", nargs="+", default=["als", "bayes"])
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="for every preset; repeatable")
    parser.add_argument("--no-peers", dest="titles", action="store_const", const={}, default=TITLES)
    parser.add_argument("--data-dir", type=Path, help="folder with the Parquet files of sets other than ml-100k")
    parser.add_argument("--peers-python", type=Path, default=Path(sys.executable), help="interpreter with implicit")
    parser.add_argument("--seeds", type=int, help="fits per split, instead of 5 for random and 1 for the others")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="append the tables to this Markdown file")
    options = parser.parse_args()
    options.attributes, options.device = False, "cpu"
    torch.set_num_threads(options.threads)
    for name in options.splits:
        with TemporaryDirectory() as folder:
            if name in INNER:
                title, folds = name, list(inner_folds(*INNER[name], options, Path(folder)))
            else:
                title, folds = SPLITS[name].title, list(read_folds(SPLITS[name], options, Path(folder)))
            emit(table(title, folds, options, Path(folder)), options.out)


def inner_folds(outer: str, tenths: Sequence[int], options: argparse.Namespace, folder: Path) -> Iterator[Fold]:
    """The training part of a split in new parts; in random order where its rows stand by user."""
    kind = SPLITS[outer]
    dataset = read(kind, options.data_dir)
    rows, _ = divide(kind, dataset, options.data_dir, 0)
    if kind.data == "ml-1m":
        rows = np.random.default_rng(1).permutation(rows)
    for tenth in tenths:
        yield make_fold(dataset, without(rows, tenth), tenth, options, folder)


def without(rows: Int64s, tenth: int) -> tuple[Int64s, Int64s]:
    begin, end = len(rows) * tenth // 10, len(rows) * (tenth + 1) // 10
    return np.delete(rows, slice(begin, end)), rows[begin:end]


def table(title: str, folds: Sequence[Fold], options: argparse.Namespace, folder: Path) -> str:
    measured: dict[str, list[tuple[float, float | None]]] = {}
    for fold in folds:
        for name, ndcg, seconds in [*ours(fold, options), *closed_forms(fold), *peers(fold, options, folder)]:
            print(f"{title}, seed {fold.seed}: {name} {ndcg:.4f}", file=sys.stderr, flush=True)
            measured.setdefault(name, []).append((ndcg, seconds))
    first = "first" if title in INNER else "seed 0"
    peer = f"implicit {implicit_version(options.peers_python) or 'not installed'}"
    ours_are = f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}"
    lines = [
        f"\n## {title}, {datetime.datetime.now(datetime.UTC).date()}\n",
        f"{cpu_model()}, {options.threads} threads; {ours_are}, {peer}.\n",
        f"| ordered by | NDCG@10, {first} | mean of {len(folds)} | fit, s |",
        "|---|---|---|---|",
        *(line(name, figures) for name, figures in sorted(measured.items(), key=lambda row: row[1][0][0])),
    ]
    return "\n".join(lines) + "\n"


def line(name: str, figures: Sequence[tuple[float, float | None]]) -> str:
    seconds = [took for _, took in figures if took is not None]
    shown = f"{median(seconds):.2f}" if seconds else "–"
    return f"| {name} | {figures[0][0]:.4f} | {mean(ndcg for ndcg, _ in figures):.4f} | {shown} |"


def ours(fold: Fold, options: argparse.Namespace) -> Iterator[tuple[str, float, float | None]]:
    """Name, NDCG@10 and seconds of each of our orders."""
    train = fold.train
    seen = TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, train.users)
    counts_I = torch.from_numpy(seen.counts(train.items)).float()
    yield "popularity", figure(lambda users_B: counts_I.repeat(len(users_B), 1), seen, fold), None
    data = training_set(train)
    for name in options.presets:
        preset = load_preset(name, options.overrides)
        trainer = preset.trainer_class(data, preset.settings, np.random.default_rng([fold.seed, 1]))
        seconds = fit(trainer, None, lambda _: None)[-1].fit_seconds
        for order, score in orders(trainer.model()).items():
            yield f"`{name}`, {order}", figure(score, seen, fold), seconds
        if preset.relevance is not None:
            head = RelevanceFit(data, preset.relevance, np.random.default_rng([fold.seed, 2]))
            seconds = fit(head, None, lambda _: None)[-1].fit_seconds
            title = f"**`{name}`, head, {head.model().factors} factors**"
            yield title, figure(partial(_head_scores, head.model()), seen, fold), seconds


def training_set(train: Interactions) -> TrainingSet:
    columns = (torch.tensor(column) for column in (train.users_N, train.items_N, train.ratings_N))
    names = ("users_N", "items_N", "ratings_N")
    return TrainingSet(users=train.users, items=train.items, **dict(zip(names, columns, strict=True)))


def closed_forms(fold: Fold) -> Iterator[tuple[str, float, float | None]]:
    """As `ours`, each with what is best on a tenth of the training part."""
    inner = inner_fold(fold)
    for name, form in CLOSED_FORMS.items():
        tried = {(values, ridge): closed_form(form, ridge, values, inner)[0] for values in VALUES for ridge in RIDGES}
        values, ridge = max(tried, key=lambda setting: tried[setting])
        ndcg, seconds = closed_form(form, ridge, values, fold)
        print(f"{name}: {values}, λ {ridge:g}", file=sys.stderr, flush=True)
        yield name, ndcg, seconds


def inner_fold(fold: Fold) -> Fold:
    order = np.random.default_rng(1).permutation(len(fold.train))
    kept, held = without(order, 9)
    train = fold.train.take(kept).compacted()
    held_out = fold.train.take(held).aligned(train.user_ids, train.item_ids)
    test = make_test_set(train, held_out, fold.test.scale, fold.test.relevant, torch.device("cpu"))
    assert test is not None
    return Fold(fold.seed, train, test, fold.task)


def closed_form(form: ClosedForm, ridge: float, values: str, fold: Fold) -> tuple[float, float]:
    """NDCG@10, and seconds to fit."""
    train = fold.train
    data, relevant = training_set(train), fold.test.relevant
    values_N = {
        "clicks": torch.ones(len(train)),
        "relevant": (data.ratings_N >= relevant).float(),
        "targets": rating_targets(data, RelevanceSettings().slope),
    }[values]
    began = time.perf_counter()
    rows = torch.stack([data.users_N, data.items_N])
    given_UI = torch.sparse_coo_tensor(rows, values_N, (train.users, train.items), check_invariants=True).coalesce()
    weights_II = form(torch.sparse.mm(given_UI.t(), given_UI).to_dense(), ridge)
    seconds = time.perf_counter() - began
    seen = TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, train.users)
    return figure(lambda users_B: given_UI.index_select(0, users_B).to_dense() @ weights_II, seen, fold), seconds


def _head_scores(head: RelevanceHead, users_B: Tensor) -> Tensor:
    return head.user_factors[users_B] @ head.item_factors[:-1].T


def orders(model: MatrixFactorization) -> dict[str, Score]:
    """By predicted rating, and by the lower bounds of a model that knows its variance."""
    noise, user_U, item_I = model.noise_variance, model.user_variance, model.item_variance
    if noise is None or user_U is None or item_I is None:
        return {"r̂": partial(all_products, model)}

    def bound(users_B: Tensor, variance: Tensor) -> Tensor:
        variance_BI = variance + user_U[users_B, None] + item_I[:-1]
        return all_products(model, users_B) - Z * variance_BI.sqrt()

    return {
        "r̂": partial(all_products, model),
        "lower bound of the expectation": lambda users_B: bound(users_B, torch.zeros(())),
        "lower bound of the rating": lambda users_B: bound(users_B, noise),
    }


def figure(score: Score, seen: TrainingRatings, fold: Fold) -> float:
    users = torch.arange(fold.train.users).split(USERS_AT_ONCE)
    lists = [top_unseen(score(users_B), seen, users_B) for users_B in users]
    return ndcg10(torch.cat(lists).numpy().astype(np.int32), fold)


def top_unseen(scores_BI: Tensor, seen: TrainingRatings, users_B: Tensor) -> Tensor:
    offsets, items_M = seen.rows(users_B)
    scores_BI[torch.repeat_interleave(offsets.diff()), items_M.long()] = -torch.inf
    return scores_BI.topk(LENGTH).indices


def peers(fold: Fold, options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, float, float | None]]:
    """As `ours`, each peer fitted in a process of its own; none where implicit is not installed."""
    if implicit_version(options.peers_python) is None:
        return
    for name, title in options.titles.items():
        results = folder / name
        results.mkdir(exist_ok=True)
        command = [str(options.peers_python), str(PEERS), "run", name, str(results), str(fold.task)]
        subprocess.run(command, check=True, env=environment(options.threads), stdout=subprocess.DEVNULL)
        with np.load(results / fold.task.name) as result:
            yield title, ndcg10(result["lists_UK"], fold), float(result["seconds"])


def implicit_version(python: Path) -> str | None:
    """None where it is not installed."""
    return next(facts["version"] for facts in listed((str(python), str(PEERS))) if facts["name"] == "implicit-als")


if __name__ == "__main__":
    main()
