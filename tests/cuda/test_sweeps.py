"""What is fitted on a GPU: as on the CPU, and without waiting for the device inside a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.mf import MatrixFactorization
from models.registry.directory import load
from tests.support.als_reference import solve_rows
from tests.support.data import planted_set
from tests.support.pretended_cuda import PretendedCuda
from training import job
from training.config import JobConfig
from training.fit import trainers
from training.fit.kernels import gibbs_torch
from training.fit.kernels.als import TorchRows
from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.collapse import reduced
from training.fit.kernels.grouping import Triplets
from training.fit.minibatch import captured
from training.fit.relevance import RelevanceFit, RelevanceSettings
from training.fit.solved_rows import TargetsByUser, solved_rows
from training.fit.trainer import Trainer, TrainingSet
from training.fit.trainers.adam import Adam, AdamSettings
from training.fit.weighted_factors import WeightedFactors

CONVERGENCE = "_linalg_svd"  # the one wait of a collapse, which a sampler makes once in several sweeps
# A posterior is reduced once in these few sweeps.
SMALL = {
    "factors": 2,
    "chains": 2,
    "trial": 0,
    "burn_in": 1,
    "samples": 2,
    "rank": 2,
    "epochs": 3,
    "sweeps": 3,
    "batch_size": 64,
}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of conjugate gradients makes the same calls."""
    monkeypatch.setattr(gibbs_torch, "STEPS", 3)


def rated() -> TrainingSet:
    """With attributes."""
    data, draw = planted_set(60, 40, 900), torch.Generator().manual_seed(0)
    attributes = (torch.rand(rows, 3, generator=draw) for rows in (data.users, data.items))
    return replace(data, **dict(zip(("user_attributes_UA", "item_attributes_IA"), attributes, strict=True)))


def on_gpu(data: TrainingSet) -> TrainingSet:
    names = ("users_N", "items_N", "ratings_N", "user_attributes_UA", "item_attributes_IA")
    moved = {name: table.to("cuda") for name in names if (table := getattr(data, name)) is not None}
    return replace(data, **moved)


def make(name: str, data: TrainingSet) -> Trainer[Any]:
    trainer = trainers.find(name)
    small = {key: value for key, value in SMALL.items() if key in trainer.Settings.model_fields}
    return trainer(data, trainer.Settings(**small), np.random.default_rng(0))


def head(data: TrainingSet) -> RelevanceFit:
    return RelevanceFit(data, RelevanceSettings(factors=6, sweeps=3, regression_items=0), np.random.default_rng(0))


def sweep(fit: Any, gpu: PretendedCuda, *allowed: str) -> list[float]:
    """The losses of a whole fit. Only the first epoch, which groups the ratings, may wait."""
    losses = [fit.epoch()["loss"]]
    with gpu.no_waits(*allowed):
        losses += [fit.epoch()["loss"] for _ in range(fit.epochs - 1)]
    return [float(loss) for loss in losses]


def everywhere(model: MatrixFactorization) -> set[str]:
    return {table.device.type for table in model.tensors().values()}


@pytest.mark.parametrize("name", trainers.names())
def test_a_sweep_of_a_trainer_waits_for_nothing_and_its_losses_are_those_of_the_cpu(
    gpu: PretendedCuda, name: str
) -> None:
    """To 10 %, because samplers draw other numbers on another device. The model is on the device."""
    data = rated()
    cpu, cuda = make(name, data), make(name, on_gpu(data))
    expected = [float(cpu.epoch()["loss"]) for _ in range(cpu.epochs)]
    allowed = (CONVERGENCE,) if "rank" in trainers.find(name).Settings.model_fields else ()
    assert sweep(cuda, gpu, *allowed) == pytest.approx(expected, rel=0.1)
    assert everywhere(cuda.model()) == {"cuda"}


@pytest.mark.parametrize("name", trainers.names())
def test_an_interrupted_fit_continues_on_the_gpu_as_if_it_had_not_stopped(gpu: PretendedCuda, name: str) -> None:
    data = on_gpu(rated())
    first, second = make(name, data), make(name, data)
    first.epoch()
    second.restore(first.state())
    assert everywhere(second.model()) == {"cuda"}
    assert float(second.epoch()["loss"]) == pytest.approx(float(first.epoch()["loss"]), rel=1e-6)


@pytest.mark.parametrize("name", trainers.names())
def test_a_fit_starts_on_the_gpu_from_an_earlier_model(gpu: PretendedCuda, name: str) -> None:
    data = on_gpu(rated())
    earlier = make("als", data)
    earlier.epoch()
    later = make(name, data)
    later.warm_start(earlier.model())
    assert np.isfinite(float(later.epoch()["loss"]))


def test_a_sweep_of_the_relevance_head_waits_for_nothing(gpu: PretendedCuda) -> None:
    factors = WeightedFactors(on_gpu(rated()), RelevanceSettings(factors=6))
    factors.start(np.random.default_rng(0))
    factors.sweep()
    with gpu.no_waits():
        factors.sweep()


def test_a_relevance_head_is_fitted_as_on_the_cpu(gpu: PretendedCuda) -> None:
    """With what is tried on the way, which may wait. The regression is left out: a pretended tensor is not sparse."""
    data = rated()
    cpu, cuda = head(data), head(on_gpu(data))
    expected, found = ([float(fit.epoch()["loss"]) for _ in range(fit.epochs)] for fit in (cpu, cuda))
    assert found == pytest.approx(expected, rel=1e-3)
    assert {table.device.type for table in cuda.model().tensors().values()} == {"cuda"}


def test_rows_for_the_columns_of_a_regression_are_solved_as_on_the_cpu(gpu: PretendedCuda) -> None:
    """Of users with no rating, with fewer and with more than there are factors."""
    draw = torch.Generator().manual_seed(0)
    counts = torch.tensor([0, 1, 4, 5, 30])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    items_N = torch.cat([torch.randperm(40, generator=draw)[:count] for count in counts.tolist()])
    targets_N, items_IG = (
        torch.rand(len(items_N), generator=draw),
        torch.linalg.qr(torch.randn(40, 5, generator=draw)).Q,
    )
    expected_UG, expected = solved_rows(TargetsByUser(starts, items_N, targets_N), items_IG, 1.0, RelevanceSettings())
    tables = moved(starts, items_N, targets_N, items_IG)
    found_UG, found = solved_rows(TargetsByUser(*tables[:3]), tables[3], 1.0, RelevanceSettings())
    torch.testing.assert_close(found_UG.cpu(), expected_UG, rtol=1e-4, atol=1e-5)
    assert (found_UG.device.type, float(found)) == ("cuda", pytest.approx(float(expected), rel=1e-4))


def test_a_collapse_waits_once_to_know_whether_it_has_converged(gpu: PretendedCuda) -> None:
    left_UW, right_IW = (torch.randn(rows, 12, generator=torch.Generator().manual_seed(rows)) for rows in (50, 30))
    tables = moved(left_UW, right_IW)
    with gpu.no_waits(CONVERGENCE):
        left_UK, right_IK = reduced(*tables, 12)
    torch.testing.assert_close((left_UK @ right_IK.T).cpu(), left_UW @ right_IW.T, rtol=1e-4, atol=1e-4)


def test_rows_that_are_cut_into_segments_are_solved_as_by_the_reference(gpu: PretendedCuda) -> None:
    """Rows of no rating, of one, and of more than a segment takes."""
    draw, degrees, columns = np.random.default_rng(0), [0, 1, 2, 3, 17, 3_000], 4_000
    rows_N = np.repeat(np.arange(len(degrees), dtype=np.int32), degrees)
    columns_N = np.concatenate([draw.permutation(columns)[:degree] for degree in degrees]).astype(np.int32)
    values_N = draw.standard_normal(len(rows_N)).astype(np.float32)
    other_CK, ridge_R = torch.from_numpy(draw.standard_normal((columns, 16), dtype=np.float32)), torch.ones(6)
    triplets = [torch.from_numpy(column) for column in (rows_N, columns_N, values_N)]
    expected_RK, _ = solve_rows(*triplets, HalfStep(other_CK, ridge_R, 2.0))
    rows = TorchRows(Triplets(*moved(*triplets), len(degrees), columns), 16)
    step, out_RK = HalfStep(*moved(other_CK, ridge_R), 2.0), torch.empty(6, 16, device="cuda")
    with gpu.no_waits():
        rows.solve(step, out_RK)
    np.testing.assert_allclose(out_RK.cpu(), expected_RK, rtol=2e-4, atol=2e-5)
    with gpu.no_waits():
        rows.solve_sums(rows.sums(step), step, out_RK.zero_())
    np.testing.assert_allclose(out_RK.cpu(), expected_RK, rtol=2e-4, atol=2e-5)


def moved(*tables: torch.Tensor) -> list[torch.Tensor]:
    return [table.to("cuda") for table in tables]


def test_recorded_steps_equal_eager_ones(gpu: PretendedCuda) -> None:
    """Of the pretended GPU: what is recorded changes no tensor until it is replayed."""
    data = on_gpu(planted_set(60, 40, 900))
    settings = AdamSettings(batch_size=64, factors=8, initial_deviation=0.3)
    eager, recorded = (Adam(data, settings, np.random.default_rng(0)) for _ in range(2))
    step: Callable[..., None] = captured(recorded.step, 64, data.device)
    for begin in range(0, 640, 64):
        batch = tuple(column[begin : begin + 64] for column in (data.users_N, data.items_N, data.ratings_N))
        eager.step(batch[0].long(), batch[1].long(), batch[2])
        step(batch[0].long(), batch[1].long(), batch[2])
    short = data.users_N[:9].long(), data.items_N[:9].long(), data.ratings_N[:9]
    eager.step(*short)
    step(*short)
    torch.testing.assert_close(recorded.table, eager.table)
    torch.testing.assert_close(recorded.squared_error, eager.squared_error)


def test_a_job_on_a_gpu_publishes_the_model_that_the_cpu_does(gpu: PretendedCuda, tmp_path: Path) -> None:
    source = tmp_path / "ratings.csv"
    rows = [f"{user},{item},{1 + (user * item + user) % 5}" for user in range(20) for item in range(15)]
    source.write_text("\n".join(("user,item,rating", *rows)) + "\n")
    found = {}
    for device in ("cpu", "cuda"):
        config = JobConfig(
            data=[str(source)],
            preset="textbook",
            threads=1,
            split="random:0.2",
            device=device,
            cache=tmp_path,
            out=tmp_path / device,
            force=True,
        )
        found[device] = job.run(config, lambda _: None).figures
    assert found["cuda"]["device"].startswith("cuda")
    for name in ("train_loss", "rmse", "mae", "bias_rmse", "ndcg10"):
        assert found["cuda"][name] == pytest.approx(found["cpu"][name], rel=1e-3), name
    host, gpu_made = (load(tmp_path / device).model.tensors() for device in ("cpu", "cuda"))
    for name, table in host.items():
        torch.testing.assert_close(gpu_made[name], table, rtol=1e-2, atol=1e-3)
