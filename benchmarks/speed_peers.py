"""Libraries that predict ratings, each as one timed fit for `training_speed.py`: `python speed_peers.py NAME FOLDER`.

It knows nothing of Ratecast, so that it can run in an environment of the peers' own. The folder holds the columns of
the training and of the test part. Settings are untuned.
"""

# ruff: noqa: PLC0415 - a library is imported where it is used, because any of them may be missing

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Predict = Callable[[Indices, Indices], Floats]

THREADS = 2


class Clock:
    """Seconds of fitting, by the wall and of all processor cores together; runs inside `with`, and may run again."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self.wall -= time.perf_counter()
        self.cpu -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


Fit = Callable[[Indices, Indices, Floats, Clock], Iterator[Predict]]


def report(fit: Fit, folder: Path) -> None:
    """Print wall and CPU seconds and test RMSE after each model that the fit yields, and the process's peak memory."""
    clock = Clock()
    models = fit(*read_part(folder, "train"), clock)
    fits = [(clock.wall, clock.cpu, rmse(predict, folder)) for predict in models]
    print(json.dumps({"fits": fits, "peak_mb": peak_memory_mb()}))


def peak_memory_mb() -> float:
    """Of this program alone: what getrusage tells includes the process that started it. Linux only."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def read_part(folder: Path, part: str) -> tuple[Indices, Indices, Floats]:
    users_N, items_N, ratings_N = (np.load(folder / f"{part}_{name}.npy") for name in ("users", "items", "ratings"))
    return users_N, items_N, ratings_N


def rmse(predict: Predict, folder: Path) -> float:
    """Of predictions clipped to the scale of planted ratings."""
    users_N, items_N, ratings_N = read_part(folder, "test")
    chunks = np.array_split(np.arange(len(ratings_N)), len(ratings_N) // 100_000 + 1)
    predicted_N = np.concatenate([predict(users_N[chunk], items_N[chunk]) for chunk in chunks])
    return float(np.sqrt(np.mean((predicted_N.clip(1, 5) - ratings_N) ** 2)))


def libmf(users_N: Indices, items_N: Indices, ratings_N: Floats, clock: Clock) -> Iterator[Predict]:
    """Its own `predict` gives wrong values, so its factors are multiplied here. It has no biases."""
    from libmf import mf

    table_N3 = np.stack([users_N, items_N, ratings_N], axis=1, dtype=np.float32, casting="unsafe")
    regularisation = {"lambda_p1": 0.0, "lambda_q1": 0.0, "lambda_p2": 0.05, "lambda_q2": 0.05}
    model = mf.MF(k=32, nr_threads=THREADS, nr_iters=20, eta=0.1, quiet=True, **regularisation)
    with clock:
        model.fit(table_N3)
    p_UF, q_IF = model.p_factors(), model.q_factors()
    yield lambda users_B, items_B: (p_UF[users_B] * q_IF[items_B]).sum(1)


def cmfrec(users_N: Indices, items_N: Indices, ratings_N: Floats, clock: Clock) -> Iterator[Predict]:
    from cmfrec import CMF
    from scipy.sparse import coo_matrix

    matrix = coo_matrix((ratings_N, (users_N, items_N)))
    model = CMF(k=32, lambda_=0.1, scale_lam=True, nthreads=THREADS, verbose=False)
    with clock:
        model.fit(matrix)
    yield model.predict


def lenskit(users_N: Indices, items_N: Indices, ratings_N: Floats, clock: Clock) -> Iterator[Predict]:
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import from_interactions_df

    data = from_interactions_df(pd.DataFrame({"user_id": users_N, "item_id": items_N, "rating": ratings_N}))
    model = BiasedMFScorer(embedding_size=32)
    with clock:
        model.train(data)
    bias, p_UF, q_IF = model.bias, np.asarray(model.user_embeddings), np.asarray(model.item_embeddings)

    def predict(users_B: Indices, items_B: Indices) -> Any:
        biases_B = bias.global_bias + bias.user_biases[users_B] + bias.item_biases[items_B]
        return biases_B + (p_UF[users_B] * q_IF[items_B]).sum(1)

    yield predict


PEERS: dict[str, Fit] = {"libmf": libmf, "cmfrec": cmfrec, "lenskit": lenskit}

if __name__ == "__main__":
    report(PEERS[sys.argv[1]], Path(sys.argv[2]))
