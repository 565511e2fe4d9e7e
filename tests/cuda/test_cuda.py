"""What must hold on a GPU as it does on the CPU. Run with `pytest -m cuda`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from app.engine.scorer import Scorer
from models import block_search
from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.scoring import BilinearForm, Side
from models.search import top_items
from models.sharding import Sharded, spread
from tests.support.data import planted_set
from training.fit import trainers
from training.fit.minibatch import captured
from training.fit.relevance import RelevanceFit, RelevanceSettings
from training.fit.trainer import TrainingSet
from training.fit.trainers.adam import Adam, AdamSettings

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


@pytest.mark.parametrize("step", [0.0, 1e-3, 1.0])
def test_lists_equal_a_sort_of_every_exact_score(step: float) -> None:
    """With many ties (step 1), near-ties, and scores that are all equal; in one block and in many."""
    tables = {name: (table / max(step, 1e-9)).round() * step for name, table in model().tensors().items()}
    ordering = by_rating(MatrixFactorization(**tables).to("cuda"))
    users_B, items_I = torch.arange(51, device="cuda"), torch.arange(3_000, device="cuda")
    excluded_BI = torch.rand(51, 3_000, device="cuda", generator=torch.Generator("cuda").manual_seed(0)) < 0.3
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), excluded_BI.sum(1).cumsum(0).cpu()])
    items_M = excluded_BI.nonzero()[:, 1].int()
    exact_BI = torch.stack([ordering.exact(user.expand(3_000), items_I) for user in users_B])
    expected = exact_BI.masked_fill(excluded_BI, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :100]
    for cells in (1 << 23, 1 << 14):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(block_search, "BLOCK_CELLS", {"cuda": cells})
            assert torch.equal(top_items(ordering, users_B, 100, excluded=(offsets, items_M)), expected)


def test_a_pair_has_the_same_bits_alone_and_in_a_batch() -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    for factors in (1, 2, 16, 48, 257):
        table = torch.randn(1_000, factors, device="cuda", generator=draw)
        users_B, items_B = torch.randint(1_000, (2, 5_000), device="cuda", generator=draw)
        form = BilinearForm(Side(table), Side(table))
        batch_B = form.exact(users_B, items_B)
        parts = zip(users_B.split(7), items_B.split(7), strict=True)
        assert torch.equal(torch.cat([form.exact(*part) for part in parts]), batch_B)


def test_the_service_predicts_as_on_the_cpu() -> None:
    cpu, cuda = (Scorer(Sharded.whole(by_rating(model().to(device))), (1.0, 5.0)) for device in ("cpu", "cuda"))
    users, items = np.arange(51), np.arange(51) * 50
    np.testing.assert_allclose(cuda.predict(users, items), cpu.predict(users, items), rtol=1e-5)
    assert [cuda.predict_pair(int(u), int(i)) for u, i in zip(users, items, strict=True)] == cuda.predict(
        users, items
    ).tolist()
    np.testing.assert_array_equal(cuda.predict(7, items), cuda.predict(np.full_like(items, 7), items))


def every_gpu(shards: int) -> list[torch.device]:
    """As many devices as asked for: every GPU there is by turns, which on a machine with one is `cuda:0` again."""
    return [torch.device("cuda", number % torch.cuda.device_count()) for number in range(shards)]


@pytest.mark.parametrize("shards", [2, 5])
@pytest.mark.parametrize("step", [1e-3, 1.0])
def test_items_spread_over_gpus_give_the_bits_of_one(shards: int, step: float) -> None:
    tables = {name: (table / step).round() * step for name, table in model().tensors().items()}
    host = by_rating(MatrixFactorization(**tables))
    one = Sharded.whole(by_rating(MatrixFactorization(**tables).to("cuda")))
    several = spread({"rating": host}, every_gpu(shards))["rating"]
    draw = torch.Generator().manual_seed(0)
    users_M, items_M = torch.randint(51, (5_000,), generator=draw), torch.randint(3_001, (5_000,), generator=draw)
    assert torch.equal(several.exact(users_M, items_M), one.exact(users_M.cuda(), items_M.cuda()).cpu())
    assert torch.equal(several.top_among(7, torch.arange(3_000), 50), one.top_among(7, torch.arange(3_000), 50).cpu())
    excluded = torch.arange(52) * 40, torch.randint(3_000, (51 * 40,), generator=draw).int()
    allowed_I = torch.rand(3_000, generator=draw) < 0.8
    for batch in (1, 51):
        left_out = excluded[0][: batch + 1], excluded[1][: batch * 40]
        found, wanted = (
            part.top_items(torch.arange(batch), 100, excluded=left_out, allowed=part.cut(allowed_I))
            for part in (several, one)
        )
        assert torch.equal(found, wanted)
    for found_N, wanted_N in zip(several.similar_items(5, 50), one.similar_items(5, 50), strict=True):
        assert torch.equal(found_N, wanted_N)


def test_a_gpu_is_given_its_items_and_no_more() -> None:
    items, factors, devices = 200_000, 64, every_gpu(4)
    host = by_rating(
        MatrixFactorization(*(torch.zeros(size) for size in ((), (9, 64), (items + 1, 64), (9,), (items + 1,))))
    )
    before = [torch.cuda.memory_allocated(device) for device in devices]
    several = spread({"rating": host}, devices)["rating"]
    for device, held in zip(devices, before, strict=True):
        rows = (items // 4 + 1) * devices.count(device)
        assert torch.cuda.memory_allocated(device) - held <= rows * (factors + 1) * 4 + (devices.count(device) << 20)
    assert several.items == items
