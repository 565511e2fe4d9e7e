"""What must hold on a GPU as it does on the CPU. Run with `pytest -m cuda`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from app.engine.scorer import Scorer
from models.mf import MatrixFactorization
from models.ranking import top_n
from tests.support.data import planted_set
from training import trainers
from training.minibatch import captured
from training.relevance import RelevanceFit, RelevanceSettings
from training.trainer import TrainingSet
from training.trainers.adam import Adam, AdamSettings

pytestmark = pytest.mark.cuda


def on_cuda(data: TrainingSet) -> TrainingSet:
    columns = {name: getattr(data, name).cuda() for name in ("users_N", "items_N", "ratings_N")}
    return TrainingSet(users=data.users, items=data.items, **columns)


def adam(data: TrainingSet) -> Adam:
    return Adam(data, AdamSettings(batch_size=256, factors=8, initial_deviation=0.3), np.random.default_rng(0))


def model(users: int = 50, items: int = 3_000) -> MatrixFactorization:
    draw = torch.Generator().manual_seed(0)
    shapes = [(), (users + 1, 16), (items + 1, 16), (users + 1,), (items + 1,)]
    return MatrixFactorization(*(torch.randn(shape, generator=draw) for shape in shapes))


@pytest.mark.parametrize("name", trainers.names())
def test_losses_agree_with_the_cpu(name: str) -> None:
    """To 2 %: a pass has another order on another device."""
    data, trainer = planted_set(), trainers.find(name)
    fits = [trainer(part, trainer.Settings(), np.random.default_rng(0)) for part in (data, on_cuda(data))]
    cpu, cuda = ([float(fit.epoch()["loss"]) for _ in range(min(5, fit.epochs))] for fit in fits)
    assert cuda == pytest.approx(cpu, rel=0.02)


def test_a_relevance_head_agrees_with_the_cpu() -> None:
    data = planted_set()
    fits = [RelevanceFit(part, RelevanceSettings(), np.random.default_rng(0)) for part in (data, on_cuda(data))]
    cpu, cuda = ([float(fit.epoch()["loss"]) for _ in range(5)] for fit in fits)
    assert cuda == pytest.approx(cpu, rel=1e-3)
    assert fits[1].model().user_factors.device.type == "cuda"


def test_recorded_steps_equal_eager_ones() -> None:
    data = on_cuda(planted_set())
    eager, recorded = adam(data), adam(data)
    step = captured(recorded.step, 256, data.device)
    for begin in (*range(0, 2_560, 256), 2_560):
        end = begin + (256 if begin < 2_560 else 100)  # the last one is short
        batch = data.users_N[begin:end].long(), data.items_N[begin:end].long(), data.ratings_N[begin:end]
        eager.step(*batch)
        step(*batch)
    torch.testing.assert_close(recorded.table, eager.table)
    torch.testing.assert_close(recorded.squared_error, eager.squared_error)


def test_lists_are_ordered_as_on_the_cpu() -> None:
    scores_BI = torch.randint(-50, 50, (20, 3_000), generator=torch.Generator().manual_seed(0)) / 7  # many ties
    scores_BI[:, ::3] = -torch.inf
    assert torch.equal(top_n(scores_BI.cuda(), 100).cpu(), top_n(scores_BI, 100))


def test_the_service_answers_as_on_the_cpu() -> None:
    cpu, cuda = Scorer(model(), (1.0, 5.0)), Scorer(model().to("cuda"), (1.0, 5.0))
    users, items = torch.arange(51), torch.arange(51) * 50
    torch.testing.assert_close(cuda.predict(users, items).cpu(), cpu.predict(users, items))
    excluded = torch.arange(0, 3_000, 2)
    (cpu_items, cpu_ratings), (cuda_items, cuda_ratings) = (scorer.top(7, excluded, 20) for scorer in (cpu, cuda))
    assert cuda_items.tolist() == cpu_items.tolist()
    torch.testing.assert_close(cuda_ratings.cpu(), cpu_ratings)
