"""Training on several ranks: what each holds, sends and needs, against one process and against docs/scaling.md.

    python -m benchmarks.ranks [--users 20000 --items 4000 --ratings 2000000] [--ranks 1 2 4] [--trainer als]
                               [--share users] [--sweeps 6] [--plot FILE.svg]
    python -m benchmarks.ranks --kills 20 [--trainer als]
    python -m benchmarks.ranks --rounds 3 [--trainer bayes] [--data FILE] [--columns user=user_id] [--set trial=0]

The ratings are planted and written as partitioned Parquet. Ranks are processes of one thread each on this machine, in a
network namespace of their own where the kernel allows it, so that the interface counts their bytes alone. The time of a
sweep is the median; its bytes are those that left one rank, the mean over ranks, as counted by `Group`, as the formula
of docs/scaling.md gives them, and as the kernel's counters of the loopback interface have them, headers included.
Memory is what a rank has more than before it read anything: what grows with its users and ratings, and the peak.
`bayes` has two chains of one variant. Its ranks share the chains, and with `--share users` the users.

With `--kills` a job on two ranks is started so many times; in each a rank, drawn at random, is killed with -9 at a
random moment after the first sweep. It prints how many jobs ended with the model of one that was left alone.

With `--rounds` whole jobs, without a relevance head, run in turn so often: one process of two threads, then two ranks
of one. It prints the medians of their seconds, and how fast the ranks are in relation. A ratio is that of two jobs that
ran one after the other, so what else the machine does counts in both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.all_products import all_products
from models.registry.directory import load
from training.communicator import Communicator
from training.config import JobConfig, load_preset
from training.data.synthetic import planted
from training.data.train_test import TrainTest
from training.distributed.group import Group
from training.distributed.runtime import distributed
from training.evaluation.evaluate import held_out_rmse, make_test_set
from training.fit import trainers
from training.fit.kernels.als_rows import packed_width
from training.fit.kernels.gibbs_torch import STEPS
from training.fit.kernels.tiles import padded_width
from training.fit.trainer import Trainer, TrainingSet
from training.launch import started_by_torchrun
from training.runtime import Runtime

PARTS, SPLIT = 8, "random:0.05"


def write_ratings(folder: Path, users: int, items: int, ratings: int) -> None:
    """Planted ratings as one file and as a directory of parts."""
    rng = np.random.default_rng(0)
    users_N, items_N, ratings_N = planted(users, items, ratings, rng)
    order = rng.permutation(ratings)
    table = pa.table({"user": users_N[order], "item": items_N[order], "rating": ratings_N[order]})
    pq.write_table(table, folder / "whole.parquet")
    (folder / "parts").mkdir()
    for number, begin in enumerate(range(0, ratings, -(-ratings // PARTS))):
        part = table.slice(begin, -(-ratings // PARTS))
        pq.write_table(part, folder / "parts" / f"{number:03}.parquet", row_group_size=1 << 16)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """What one rank, or the only process, finds out; into a file of the folder."""
    name, sweeps = arguments.trainer, arguments.sweeps
    torch.set_num_threads(arguments.threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    several = started_by_torchrun()
    joined: AbstractContextManager[Runtime] = distributed("cpu", None) if several else nullcontext(Runtime())
    with joined as runtime:
        source = folder / ("parts" if several else "whole.parquet")
        config = JobConfig(data=[str(source)], preset=name, cache=folder, split=SPLIT)
        preset = load_preset(name)
        ratings = runtime.read(config, preset, lambda _: None)
        read_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = runtime.training_set(ratings, torch.device("cpu"))
        if arguments.share == "chains":
            data = runtime.to_fit(preset, data, ratings)
        trainer_class = trainers.find(name)
        one = {"factors": 15, "effects": "yes", "heavy_tails": "yes"}
        chosen = {"sweeps": sweeps} if name == "als" else {"burn_in": 1, "samples": sweeps - 1, **one}
        trainer = trainer_class(data, trainer_class.Settings(**chosen), np.random.default_rng(0))
        trainer.epoch()  # groups the ratings
        seconds, counted, wire = _sweeps(trainer, sweeps - 1)
        train, held_out = ratings.train, ratings.test
        test = make_test_set(train, held_out, ratings.scale, None, torch.device("cpu"), runtime.communicator)
        assert test is not None
        rmse = held_out_rmse(trainer.model(), test)
        result = {
            "rmse": rmse,
            "seconds": statistics.median(seconds),
            "counted": counted,
            "wire": wire,
            "formula": formula(trainer, data) if several else 0,
            "ratings": len(data),
            "users": data.users,
            "share_mb": share_bytes(ratings, trainer) / 1e6,
            "read_mb": (read_peak - before) / 1e3,
            "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3,
        }
    (folder / f"result-{runtime.communicator.rank}.json").write_text(json.dumps(result))


def _sweeps(trainer: Trainer[Any], sweeps: int) -> tuple[list[float], float, float]:
    """Seconds of each sweep; bytes of a sweep as this rank counted them, and as the loopback interface did per rank."""
    communicator = trainer.data.communicator
    seconds, begun, sent = [], _loopback(), sent_bytes(communicator)
    for _ in range(sweeps):
        began = time.perf_counter()
        trainer.epoch()
        seconds.append(time.perf_counter() - began)
    counted = (sent_bytes(communicator) - sent) / sweeps
    communicator.total(0)  # until all have sent theirs
    return seconds, counted, (_loopback() - begun) / sweeps / communicator.size


def _loopback() -> int:
    (line,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def sent_bytes(communicator: Communicator) -> int:
    return communicator.sent_bytes if isinstance(communicator, Group) else 0


def share_bytes(ratings: TrainTest, trainer: Trainer[Any]) -> int:
    """What grows with a rank's users and ratings: the ratings as read, and every tensor of the state by user."""
    state = trainer.state()
    by_user = sum(tensor.nbytes for name, tensor in state.items() if trainer.side_of(name) == "user")
    return 12 * len(ratings.train) + by_user


def formula(trainer: Trainer[Any], data: TrainingSet) -> float:
    """Bytes that a rank sends in a sweep, as docs/scaling.md has them."""
    if data.everything is not None:
        return 0
    group = data.communicator
    others, longest = group.size - 1, data.item_span.longest
    if type(trainer).__name__ == "Als":
        width = padded_width(trainer.settings.factors)
        sums, row, gathers = packed_width(width), width, longest * width
        chains = 1
    else:
        width = padded_width(trainer.settings.factors)
        sums, row, chains = width * (width + 1) // 2 + width, width + 1, trainer.settings.chains
        effects = 2 * (2 * STEPS + 3)  # sums over users or items
        gathers = longest * (2 * (width + 1) + width + 4 + effects * width + width + 1)
    totals_I = data.item_totals()
    hot_I = totals_I * row > group.size * sums if group.size > 1 else torch.zeros_like(totals_I, dtype=torch.bool)
    owner_I = torch.arange(data.items) // longest
    most = int(torch.bincount(owner_I[hot_I], minlength=group.size).max())
    items_N, users_N = data.items_N.long(), data.users_N.long()
    cold_N = ~hot_I[items_N] & (owner_I[items_N] != group.rank)
    rows = len((owner_I[items_N[cold_N]] * data.users + users_N[cold_N]).unique())
    return 4 * chains * (others * (gathers + most * sums) + rows * row)


def run_ranks(folder: Path, arguments: argparse.Namespace, ranks: int, threads: int = 1) -> list[dict[str, float]]:
    """The results of all ranks; 0 ranks are one process without torchrun."""
    words = ["--measure", str(folder), "--trainer", arguments.trainer, "--sweeps", str(arguments.sweeps)]
    words += ["--threads", str(threads), "--share", arguments.share]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
    command = [sys.executable, *launcher, "-m", "benchmarks.ranks", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    subprocess.run([*namespace(), *command], check=True, env=environment)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(max(1, ranks))]


def namespace() -> list[str]:
    """What runs a command in a network of its own, with a loopback interface; nothing where that is not allowed."""
    prefix = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    allowed = subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
    return prefix if allowed else []


def compare(arguments: argparse.Namespace) -> None:
    """Print the table, and plot memory by ranks."""
    print(
        f"{arguments.users:,} users × {arguments.items:,} items, {arguments.ratings:,} ratings, {arguments.trainer}\n"
    )
    print("| processes | RMSE | s a sweep | most ratings | share MB | read MB | peak MB | sent MB | formula | wire |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    shares: dict[int, float] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_ratings(folder, arguments.users, arguments.items, arguments.ratings)
        for ranks, threads in [(0, 1), (0, 2), *((ranks, 1) for ranks in arguments.ranks)]:
            results = run_ranks(folder, arguments, ranks, threads)
            most = {key: max(result[key] for result in results) for key in results[0]}
            mean = {key: statistics.mean(result[key] for result in results) for key in results[0]}
            title = f"{ranks} ranks" if ranks else f"plain, {threads} threads"
            print(
                f"| {title} | {mean['rmse']:.5f} | {most['seconds']:.3f} | {most['ratings']:,} "
                f"| {most['share_mb']:.1f} | {most['read_mb']:.0f} | {most['peak_mb']:.0f} "
                f"| {mean['counted'] / 1e6:.3f} | {mean['formula'] / 1e6:.3f} | {mean['wire'] / 1e6:.3f} |",
                flush=True,
            )
            if ranks:
                shares[ranks] = most["share_mb"]
    if arguments.plot is not None:
        plot(shares, arguments.plot)


def plot(shares: dict[int, float], file: Path) -> None:
    """The most that any rank holds of users' rows and ratings, beside 1/ranks of what one holds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - where the rest is run, it may be missing

    figure = Figure(figsize=(6.4, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    ranks = sorted(shares)
    axes.loglog(ranks, [shares[count] for count in ranks], marker="o", label="measured, the fullest rank")
    axes.loglog(ranks, [shares[ranks[0]] * ranks[0] / count for count in ranks], linestyle="--", label="1 / ranks")
    axes.set(title="Users' rows and ratings on a rank", xlabel="ranks", ylabel="MB")
    axes.set_xticks(ranks, [str(count) for count in ranks])
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, metadata={"Date": None})


def race(arguments: argparse.Namespace) -> None:
    """Print the seconds of jobs on two threads and on two ranks, in turn."""
    with TemporaryDirectory() as name:
        folder, source = Path(name), arguments.data
        if source is None:
            write_ratings(folder, arguments.users, arguments.items, arguments.ratings)
            source = str(folder / "whole.parquet")
        runs = [
            (run_job(folder, arguments, source, 0), run_job(folder, arguments, source, 2))
            for _ in range(arguments.rounds)
        ]
    print(
        f"{Path(source).name}, {arguments.trainer} {' '.join(arguments.set)}: medians of {arguments.rounds} jobs each\n"
    )
    print("| processes | RMSE | s to fit | s in all |")
    print("|---|---|---|---|")
    for place, title in enumerate(("one of 2 threads", "2 ranks of one thread")):
        medians = {
            key: statistics.median(pair[place][key] for pair in runs) for key in ("rmse", "fit_seconds", "seconds")
        }
        print(f"| {title} | {medians['rmse']:.5f} | {medians['fit_seconds']:.1f} | {medians['seconds']:.1f} |")
    for key, what in (("fit_seconds", "to fit"), ("seconds", "in all")):
        ratios = sorted(threads[key] / ranks[key] for threads, ranks in runs)
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"\nspeed of 2 ranks over that of 2 threads, {what}: {statistics.median(ratios):.2f} ({shown})")


def run_job(folder: Path, arguments: argparse.Namespace, source: str, ranks: int) -> dict[str, float]:
    """The figures of a job on so many ranks; 0 ranks are one process of two threads."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks else []
    job = ["training", "fit", "--data", source, "--split", SPLIT, "--preset", arguments.trainer, "--device", "cpu"]
    job += [word for columns in arguments.columns for word in ("--columns", columns)]
    job += [word for setting in ["relevance=false", *arguments.set] for word in ("--set", setting)]
    job += ["--threads", "1" if ranks else "2", "--out", str(folder / "out"), "--force", "--json", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if ranks else "2", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *job], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{ranks or 'no'} ranks: {figures['fit_seconds']:.1f} s to fit, {figures['seconds']:.1f} s", file=sys.stderr)
    return figures


def fit_command(folder: Path, arguments: argparse.Namespace, out: str) -> list[str]:
    """A job on two ranks that saves its state after every sweep."""
    chosen = {"als": ["sweeps=40"], "bayes": ["burn_in=5", "samples=15", "factors=7"]}[arguments.trainer]
    settings = [word for setting in [*chosen, "relevance=false"] for word in ("--set", setting)]
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3"]
    job = ["fit", "--data", str(folder / "parts"), "--split", SPLIT, "--preset", arguments.trainer, "--device", "cpu"]
    saved = ["--resume", str(folder / "state"), "--save-every", "0", "--out", str(folder / out), "--force"]
    return [sys.executable, "-m", *launcher, "-m", "training", *job, *settings, *saved]


def kill(arguments: argparse.Namespace) -> None:
    """Kill a rank of each of so many jobs, and print how the models compare with that of a job left alone."""
    rng = np.random.default_rng(0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_ratings(folder, arguments.users, arguments.items, arguments.ratings)
        subprocess.run(fit_command(folder, arguments, "alone"), check=True, env=environment, capture_output=True)
        expected, right = predictions(folder / "alone"), 0
        for number in range(arguments.kills):
            killed = run_and_kill(fit_command(folder, arguments, f"killed-{number}"), environment, rng)
            try:
                apart = float((predictions(folder / f"killed-{number}") - expected).abs().max())
            except Exception as error:
                apart = float("inf")
                print(f"job {number}: {error}")
            right += apart < 1e-3
            print(f"job {number}: killed {killed}, predictions differ by {apart:.1e}", flush=True)
    print(f"{right} of {arguments.kills} jobs ended with the right model")


def run_and_kill(command: list[str], environment: dict[str, str], rng: np.random.Generator) -> str:
    """Run a job, kill one of its ranks somewhere between its first sweep and its end; says when."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    delay, victim, when = rng.uniform(0, 2.5), int(rng.integers(2)), "nobody: the job was done before"
    fitting, lines = threading.Event(), []

    def follow() -> None:
        for line in process.stdout or ():
            lines.append(line.strip())
            if line.startswith("epoch 1/"):
                fitting.set()

    follower = threading.Thread(target=follow)
    follower.start()
    fitting.wait(300)
    time.sleep(delay)
    children = [child for child in psutil.Process(process.pid).children() if "fit" in child.cmdline()]
    if len(children) == 2:
        children[victim].kill()
        when = f"rank {victim} after {delay:.2f} s ({lines[-1].split('  ')[0]})"
    code = process.wait()
    follower.join()
    return when if code == 0 else f"{when}, and the job failed: {lines[-1]}"


def predictions(directory: Path) -> torch.Tensor:
    """The ratings that a checkpoint predicts for some users and all items."""
    model = load(directory).model
    return all_products(model, torch.arange(0, model.users, max(1, model.users // 200)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--ratings", type=int, default=2_000_000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trainer", choices=["als", "bayes"], default="als")
    parser.add_argument("--share", choices=["chains", "users"], default="chains")
    parser.add_argument("--sweeps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--data")
    parser.add_argument("--columns", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure, arguments)
    elif arguments.rounds is not None:
        race(arguments)
    elif arguments.kills is not None:
        kill(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
