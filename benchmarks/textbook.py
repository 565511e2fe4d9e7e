"""The preset `textbook` against its published figures, and against the plain loop of the textbook.

Accuracy: both splits, five seeds. Speed: the plain loop (DataLoader, autograd, unfused Adam, the loss read after each
step) and ours do the same arithmetic on the same ratings, alternating; medians and their ratio are printed.

    python -m benchmarks.textbook [--seeds 5] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from models.mf import MatrixFactorization
from training.config import JobConfig, load_preset
from training.data.fetch import default_cache
from training.data.train_test import TrainTest, read
from training.evaluation.evaluate import held_out_rmse, make_test_set
from training.fit.loop import fit
from training.fit.trainer import Trainer
from training.fitting import make_trainer
from training.runtime import Runtime

CPU = torch.device("cpu")
PRESET = load_preset("textbook")
USER, ITEM = "21", "31"  # indices 20 and 30 of the textbook, which published 2.70 for one run


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=3, help="alternations of the speed comparison")
    options = arguments.parse_args()
    for split in ("last-out", "random:0.1"):
        print_accuracy(split, options.seeds)
    print_speed(read_ratings("last-out", 0), options.rounds)


def read_ratings(split: str, seed: int) -> TrainTest:
    return read(JobConfig(data=["ml-100k"], split=split, preset="textbook", seed=seed, cache=default_cache()))


def print_accuracy(split: str, seeds: int) -> None:
    print(f"\nml-100k {split}; published for last-out: train loss 0.644, test RMSE 1.043, user {USER} item {ITEM} 2.70")
    print(f"{'seed':>6}{'train loss':>12}{'test RMSE':>12}{'r(21, 31)':>12}")
    rows = []
    for seed in range(seeds):
        ratings = read_ratings(split, seed)
        trainer = make_trainer(PRESET, Runtime().training_set(ratings, CPU), seed)
        loss = fit(trainer, None, lambda _: None)[-1].figures["loss"]
        model = trainer.model()
        test = make_test_set(ratings.train, ratings.test, ratings.scale, None, CPU)
        assert test is not None
        rows.append((loss, held_out_rmse(model, test), predict_pair(model, ratings)))
        print(f"{seed:>6}{rows[-1][0]:>12.4f}{rows[-1][1]:>12.4f}{rows[-1][2]:>12.3f}")
    means, deviations = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
    print(f"{'mean':>6}{means[0]:>12.4f}{means[1]:>12.4f}{means[2]:>12.3f}")
    print(f"{'dev':>6}{deviations[0]:>12.4f}{deviations[1]:>12.4f}{deviations[2]:>12.3f}")


def predict_pair(model: MatrixFactorization, ratings: TrainTest) -> float:
    user, item = ratings.train.user_ids.index(USER).as_py(), ratings.train.item_ids.index(ITEM).as_py()
    return float(model(torch.tensor([user]), torch.tensor([item])))


def print_speed(ratings: TrainTest, rounds: int) -> None:
    plain, ours = [], []
    for _ in range(rounds):
        plain.append(plain_examples_per_second(ratings))
        ours.append(our_examples_per_second(ratings))
    threads = torch.get_num_threads()
    print(f"\nexamples/s, medians of {rounds} alternating rounds, {threads} threads; published on a GPU: 382,587")
    print(f"{'plain loop':>20}{statistics.median(plain):>14,.0f}")
    print(f"{'textbook preset':>20}{statistics.median(ours):>14,.0f}")
    print(f"{'ratio':>20}{statistics.median(ours) / statistics.median(plain):>14.1f}")


def our_examples_per_second(ratings: TrainTest, device: torch.device = CPU) -> float:
    trainer: Trainer = make_trainer(PRESET, Runtime().training_set(ratings, device), 0)
    return fit(trainer, None, lambda _: None)[-1].examples_per_second


class PlainMF(nn.Module):
    """The textbook's module, written down as the textbook has it."""

    def __init__(self, factors: int, users: int, items: int) -> None:
        super().__init__()
        self.P, self.Q = nn.Embedding(users, factors), nn.Embedding(items, factors)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        for table in (self.P, self.Q):
            nn.init.normal_(table.weight, std=0.01)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        biases = self.user_bias(users).squeeze(1) + self.item_bias(items).squeeze(1)
        return (self.P(users) * self.Q(items)).sum(1) + biases


def plain_examples_per_second(ratings: TrainTest, device: torch.device = CPU) -> float:
    """One epoch of the plain loop."""
    train, settings = ratings.train, PRESET.settings.model_dump()
    columns = (torch.from_numpy(c) for c in (train.users_N.astype("i8"), train.items_N.astype("i8"), train.ratings_N))
    loader = DataLoader(TensorDataset(*columns), batch_size=settings["batch_size"], shuffle=True)
    model = PlainMF(settings["factors"], train.users, train.items).to(device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"], foreach=False
    )
    total = 0.0
    began = time.perf_counter()
    for batch in loader:
        users, items, ratings = (column.to(device) for column in batch)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(users, items), ratings)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(ratings)
    return len(train) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
