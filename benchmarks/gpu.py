"""Everything that needs a GPU in one run: tests marked `cuda`, then each preset and the scorer on CPU and GPU.

    python -m benchmarks.gpu [--rounds 3]

Prints a table to keep under `benchmarks/results/`. Ends with exit code 2 where there is no CUDA device, and with 1 if a
test fails or the two devices disagree. The GPU's figures are medians after a first round that is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.scoring import BilinearForm
from models.search import top_items
from training.config import JobConfig, load_preset
from training.constants import preset_names
from training.data.fetch import default_cache
from training.data.train_test import read
from training.evaluation.evaluate import held_out_rmse, make_test_set
from training.fit.loop import fit
from training.fitting import make_trainer
from training.runtime import Runtime

CPU = torch.device("cpu")
USERS, ITEMS, FACTORS, BATCH, LIST = 100_000, 1_000_000, 64, 32, 10
PAIRS = 1_000_000
RMSE_TOLERANCE = 0.005  # samplers draw other numbers on another device


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if not torch.cuda.is_available():
        print("there is no CUDA device", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "cuda"], check=False).returncode
    agree = [print_preset(name, rounds) for name in preset_names()]
    agree.append(print_scorer(rounds))
    return 0 if tests == 0 and all(agree) else 1


def print_preset(name: str, rounds: int) -> bool:
    """Fit seconds and RMSE of a preset on ml-100k random:0.1; whether both devices come to about the same RMSE."""
    preset = load_preset(name)
    config = JobConfig(data=["ml-100k"], split="random:0.1", preset=name, cache=default_cache())
    ratings = read(config, with_attributes=preset.trainer_class.uses_attributes)
    figures = {}
    for device in (CPU, torch.device("cuda")):
        test = make_test_set(ratings.train, ratings.test, ratings.scale, None, device)
        assert test is not None
        seconds = []
        for _ in range(rounds + 1):
            trainer = make_trainer(preset, Runtime().training_set(ratings, device), 0)
            seconds.append(fit(trainer, None, lambda _: None)[-1].fit_seconds)
        figures[device.type] = (held_out_rmse(trainer.model(), test, clipped=True), statistics.median(seconds[1:]))
    (cpu_rmse, cpu_seconds), (gpu_rmse, gpu_seconds) = figures["cpu"], figures["cuda"]
    print(
        f"{name:<12} RMSE {cpu_rmse:.4f} / {gpu_rmse:.4f}   fit {cpu_seconds:.3f} s / {gpu_seconds:.3f} s (CPU / GPU)"
    )
    return abs(cpu_rmse - gpu_rmse) <= RMSE_TOLERANCE


def print_scorer(rounds: int) -> bool:
    """A million pairs, and lists of ten from a million items for 32 users; whether the devices agree."""
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(shape, generator=generator) * 0.1 for shape in ((USERS + 1, FACTORS), (ITEMS + 1, FACTORS))]
    biases = [torch.randn(shape, generator=generator) * 0.1 for shape in (USERS + 1, ITEMS + 1)]
    pairs = [torch.randint(rows, (PAIRS,), generator=generator) for rows in (USERS, ITEMS)]
    answers = []
    for device in (CPU, torch.device("cuda")):
        model = MatrixFactorization(torch.tensor(3.5), *tables, *biases).to(device)
        users_B, items_B = (column.to(device) for column in pairs)
        pair_seconds = median_seconds(partial(model, users_B, items_B), rounds, device)
        list_seconds = median_seconds(partial(lists, by_rating(model), users_B[:BATCH]), rounds, device)
        answers.append(model(users_B, items_B).cpu())
        rates = f"{PAIRS / pair_seconds:,.0f} pairs/s   {BATCH / list_seconds:,.0f} lists/s"
        print(f"{device.type:<12} {rates} of {ITEMS:,} items")
    return bool(torch.allclose(*answers, atol=1e-5))


def lists(ordering: BilinearForm, users_B: Tensor) -> Tensor:
    return top_items(ordering, users_B, LIST)


def median_seconds(work: Callable[[], object], rounds: int, device: torch.device) -> float:
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    sys.exit(main())
