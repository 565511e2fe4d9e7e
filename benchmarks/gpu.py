"""Everything that needs a GPU in one run: tests marked `cuda`, presets, planted ratings, the scorer and lists.

    python -m benchmarks.gpu [--rounds 3] [--seconds 480]

Prints lines to keep under `benchmarks/results/`; `python -m benchmarks.roofline` says what to expect. After the given
seconds it ends, and a line names each part that is left out. Ends with exit code 2 where there is no CUDA device, and
with 1 if a test fails or the two devices disagree. Figures are medians after a first round that is not counted.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.textbook import our_examples_per_second, plain_examples_per_second, read_ratings
from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.scoring import BilinearForm
from models.search import top_items
from training.config import JobConfig, load_preset
from training.constants import preset_names
from training.data.fetch import default_cache
from training.data.synthetic import planted
from training.data.train_test import read
from training.evaluation.evaluate import held_out_rmse, make_test_set
from training.fit.loop import fit
from training.fit.relevance import RelevanceFit, RelevanceSettings
from training.fit.trainer import TrainingSet
from training.fitting import make_trainer
from training.runtime import Runtime

CPU = torch.device("cpu")
USERS, ITEMS, FACTORS, BATCH, LIST = 100_000, 1_000_000, 64, 32, 10
PAIRS = 1_000_000
BATCHES = (1, 32, 256)
PLANTED = ((6_040, 3_706, 1_000_000), (70_000, 10_000, 10_000_000), (480_189, 17_770, 100_000_000))
RMSE_TOLERANCE = 0.005  # samplers draw other numbers on another device


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=480, help="when it ends")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, time_is_over)
    deadline = time.monotonic() + options.seconds
    if not torch.cuda.is_available():
        print("there is no CUDA device", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    print(f"{time.strftime('%Y-%m-%d')}: ends after {options.seconds:.0f} s", flush=True)
    passed = [run_part(name, part, deadline) for name, part in parts(options.rounds).items()]
    return 0 if all(passed) else 1


class TimeIsOverError(Exception):
    pass


def time_is_over(*_signal: object) -> None:
    raise TimeIsOverError


def parts(rounds: int) -> dict[str, Callable[[], bool]]:
    """By name, in the order in which they run; each prints its figures and returns whether all was as it should be."""
    presets = {name: partial(print_preset, name, rounds) for name in preset_names()}
    fits = {f"fits of {ratings:,} planted ratings": partial(print_fits, *shape, ratings) for *shape, ratings in PLANTED}
    return {
        "textbook": partial(print_textbook, rounds),
        "lists": partial(print_lists, rounds),
        "scorer": partial(print_scorer, rounds),
        **presets,
        "tests": run_tests,
        **fits,
    }


def run_part(name: str, part: Callable[[], bool], deadline: float) -> bool:
    """Run a part; say how long it took, whether it is not as it should be, or that the time was over."""
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, max(deadline - began, 1e-3))
    try:
        passed = part()
    except TimeIsOverError:
        print(f"left out, because the time is over: {name}", flush=True)
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    verdict = "" if passed else "   NOT AS IT SHOULD BE"
    print(f"  ({name}: {time.monotonic() - began:.0f} s, {utilisation()}){verdict}", flush=True)
    return passed


def run_tests() -> bool:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests"], check=False).returncode == 0


def utilisation() -> str:
    """The most memory that torch has held since the last part."""
    peak = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return f"at most {peak:.2f} GB of the GPU"


def print_textbook(rounds: int) -> bool:
    """Examples a second of the preset and of the plain loop on the same device; published: 382,587."""
    ratings, device = read_ratings("last-out", 0), torch.device("cuda")
    for name, measure in (("plain loop", plain_examples_per_second), ("textbook", our_examples_per_second)):
        rates = [measure(ratings, device) for _ in range(rounds + 1)]
        print(f"{name:<12} {statistics.median(rates[1:]):,.0f} examples/s")
    return True


def print_fits(users: int, items: int, ratings: int) -> bool:
    """Seconds of a whole fit of `als` and of its head, and of three sweeps of `bayes`, on planted ratings."""
    columns = planted(users, items, ratings, np.random.default_rng(0))
    names = ("users_N", "items_N", "ratings_N")
    moved = {name: torch.from_numpy(column).cuda() for name, column in zip(names, columns, strict=True)}
    data = TrainingSet(users=users, items=items, **moved)
    als, bayes = load_preset("als"), load_preset("bayes")
    few = bayes.settings.model_copy(update={"burn_in": 1, "samples": 2})
    for name, make in {
        "als": partial(als.trainer_class, data, als.settings),
        "head": partial(RelevanceFit, data, als.relevance or RelevanceSettings()),
        "bayes": partial(bayes.trainer_class, data, few),
    }.items():
        history = fit(make(np.random.default_rng(0)), None, lambda _: None)
        sweep = (history[-1].fit_seconds - history[0].fit_seconds) / (len(history) - 1)
        rate = f"{ratings / sweep:,.0f} ratings/s in a sweep after the first"
        print(f"{name:<12} {ratings:,} ratings: {len(history)} sweeps {history[-1].fit_seconds:.3f} s   {rate}")
    return True


def print_lists(rounds: int) -> bool:
    """Exact lists from a million items at several batches, each beside those of the CPU for its first user."""
    model, same = drawn_model(), True
    ordering, host = by_rating(model.to("cuda")), by_rating(model)
    for batch in BATCHES:
        users_B = torch.arange(batch, device="cuda")
        seconds = median_seconds(partial(lists, ordering, users_B), rounds, torch.device("cuda"))
        print(f"batch {batch:<6} {1e3 * seconds:.3f} ms   {batch / seconds:,.0f} lists/s of {ITEMS:,} × {FACTORS}")
        found_N = lists(ordering, users_B)[0].cpu()
        exact_I = ordering.exact(users_B[:1].expand(ITEMS), torch.arange(ITEMS, device="cuda")).cpu()
        same &= bool(torch.equal(found_N, exact_I.sort(descending=True, stable=True).indices[:LIST]))
        same &= len(set(found_N.tolist()) & set(lists(host, users_B[:1].cpu())[0].tolist())) >= LIST - 1
    return same


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
    generator, drawn = torch.Generator().manual_seed(1), drawn_model()
    pairs = [torch.randint(rows, (PAIRS,), generator=generator) for rows in (USERS, ITEMS)]
    answers = []
    for device in (CPU, torch.device("cuda")):
        model = drawn.to(device)
        users_B, items_B = (column.to(device) for column in pairs)
        pair_seconds = median_seconds(partial(model, users_B, items_B), rounds, device)
        list_seconds = median_seconds(partial(lists, by_rating(model), users_B[:BATCH]), rounds, device)
        answers.append(model(users_B, items_B).cpu())
        rates = f"{PAIRS / pair_seconds:,.0f} pairs/s   {BATCH / list_seconds:,.0f} lists/s"
        print(f"{device.type:<12} {rates} of {ITEMS:,} items")
    return bool(torch.allclose(*answers, atol=1e-5))


def drawn_model() -> MatrixFactorization:
    generator = torch.Generator().manual_seed(0)
    shapes = ((USERS + 1, FACTORS), (ITEMS + 1, FACTORS), (USERS + 1,), (ITEMS + 1,))
    tables = (torch.randn(shape, generator=generator) * 0.1 for shape in shapes)
    return MatrixFactorization(torch.tensor(3.5), *tables)


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
