"""The inner loop of gradient trainers: shuffle on the device, cut into batches, step. It does not know the model.

Shapes: N training ratings, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from training.fit.trainer import TrainingSet

Step = Callable[[Tensor, Tensor, Tensor], None]
Batch = tuple[Tensor, Tensor, Tensor]  # users_B, items_B, ratings_B
SMALL_STEP = 1 << 20  # 85,000 numbers on 2 cores: 1.8 M examples/s with one thread, 1.2 M with two
WARM_UP_STEPS = 3  # torch requires a few eager steps on a side stream before a CUDA graph is recorded


def pass_over(data: TrainingSet, batch_size: int, seed: int, step: Step) -> None:
    """Call `step(users_B, items_B, ratings_B)` for every batch of a shuffled pass; the last may be shorter.

    Indices are int64. `seed` fixes the order. Neither this function nor `step` may wait for the device.
    """
    generator = torch.Generator(data.device).manual_seed(seed)
    order_N = torch.randperm(len(data), generator=generator, device=data.device)
    columns = (data.users_N[order_N].long(), data.items_N[order_N].long(), data.ratings_N[order_N])
    for begin in range(0, len(data), batch_size):
        step(*(column[begin : begin + batch_size] for column in columns))


@contextmanager
def one_thread_for_small_steps(elements: int) -> Iterator[None]:
    """Run steps on few numbers on one CPU thread, because a second one costs more time than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if elements < SMALL_STEP else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def captured(step: Step, batch_size: int, device: torch.device) -> Step:
    """The step; on CUDA recorded as a graph, so that a batch is one launch instead of one per kernel."""
    return _CapturedStep(step, batch_size) if device.type == "cuda" else step


class _CapturedStep:
    """Runs the first full batches eagerly on a side stream, records the next one, then replays the recording.

    Batches of another size run eagerly. The step must update the same tensors in place every time.
    """

    def __init__(self, step: Step, batch_size: int) -> None:
        self._step, self._batch_size, self._eager_steps = step, batch_size, 0
        self._recording: tuple[torch.cuda.CUDAGraph, Batch] | None = None

    def __call__(self, users_B: Tensor, items_B: Tensor, ratings_B: Tensor) -> None:
        batch = (users_B, items_B, ratings_B)
        if len(ratings_B) != self._batch_size:
            self._step(*batch)
        elif self._eager_steps < WARM_UP_STEPS:
            self._warm_up(batch)
        else:
            graph, inputs = self._recording = self._recording or self._record(batch)
            for held, given in zip(inputs, batch, strict=True):
                held.copy_(given)
            graph.replay()

    def _warm_up(self, batch: Batch) -> None:
        side = torch.cuda.Stream(device=batch[0].device)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._step(*batch)
        torch.cuda.current_stream().wait_stream(side)
        self._eager_steps += 1

    def _record(self, batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch]:
        inputs = (batch[0].clone(), batch[1].clone(), batch[2].clone())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # records without running
            self._step(*inputs)
        return graph, inputs
