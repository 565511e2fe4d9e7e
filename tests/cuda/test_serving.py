"""What is served from a GPU as on the CPU: scores, exact lists, items spread over several, users folded in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from app.engine.scorer import Scorer
from models import block_search
from models.block_search import constant, user_rows, write_products
from models.fold_in import FoldIn, FoldInPrior
from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.relevance import RelevanceHead
from models.scoring import BilinearForm, Side
from models.search import top_items
from models.sharding import Sharded, spread
from models.training_ratings import TrainingRatings
from tests.support.drafts import RULE
from tests.support.pretended_cuda import PretendedCuda

WAITS_OF_A_BLOCK = 8


def model(users: int = 50, items: int = 3_000) -> MatrixFactorization:
    draw = torch.Generator().manual_seed(0)
    shapes = [(), (users + 1, 16), (items + 1, 16), (users + 1,), (items + 1,)]
    return MatrixFactorization(*(torch.randn(shape, generator=draw) for shape in shapes))


@pytest.mark.parametrize("step", [0.0, 1e-3, 1.0])
def test_lists_equal_a_sort_of_every_exact_score(gpu: PretendedCuda, step: float) -> None:
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


def test_a_pair_has_the_same_bits_alone_and_in_a_batch(gpu: PretendedCuda) -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    for factors in (1, 2, 16, 48, 257):
        table = torch.randn(1_000, factors, device="cuda", generator=draw)
        users_B, items_B = torch.randint(1_000, (2, 500), device="cuda", generator=draw)
        form = BilinearForm(Side(table), Side(table))
        batch_B = form.exact(users_B, items_B)
        parts = zip(users_B.split(7), items_B.split(7), strict=True)
        assert torch.equal(torch.cat([form.exact(*part) for part in parts]), batch_B)


def test_the_service_predicts_as_on_the_cpu(gpu: PretendedCuda) -> None:
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
def test_items_spread_over_gpus_give_the_bits_of_one(gpu: PretendedCuda, shards: int, step: float) -> None:
    tables = {name: (table / step).round() * step for name, table in model().tensors().items()}
    host = by_rating(MatrixFactorization(**tables))
    one = Sharded.whole(by_rating(MatrixFactorization(**tables).to("cuda")))
    several = spread({"rating": host}, every_gpu(shards))["rating"]
    draw = torch.Generator().manual_seed(0)
    users_M, items_M = torch.randint(51, (5_000,), generator=draw), torch.randint(3_001, (5_000,), generator=draw)
    assert torch.equal(several.exact(users_M, items_M), one.exact(users_M.to("cuda"), items_M.to("cuda")).cpu())
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


@pytest.mark.parametrize("name", ["one", "a batch"])
def test_scores_and_products_wait_for_nothing(gpu: PretendedCuda, name: str) -> None:
    ordering, batch = by_rating(model().to("cuda")), {"one": 1, "a batch": 51}[name]
    users_B = torch.arange(batch, device="cuda")
    columns_GB, out_RB = user_rows(ordering, users_B).T.contiguous(), torch.empty(96, batch, device="cuda")
    with gpu.no_waits():
        ordering.exact(users_B, users_B)
        write_products(ordering, users_B, columns_GB, slice(0, 96), out_RB)
        constant(ordering, users_B)


@pytest.mark.parametrize("batch", [1, 32])
def test_a_search_waits_a_few_times_for_each_block(pretended: PretendedCuda, batch: int) -> None:
    """Which items are candidates decides what is done next. A block of 1M × 64 takes longer than its waits."""
    ordering, waits = by_rating(model().to("cuda")), []
    for rows in (3_000, 300):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(block_search, "MIN_BLOCK_ROWS", rows)
            patch.setattr(block_search, "BLOCK_CELLS", {"cuda": 1})
            top_items(ordering, torch.arange(batch, device="cuda"), 10)  # knows the largest norm from now on
            pretended.waits.clear()
            top_items(ordering, torch.arange(batch, device="cuda"), 10)
            waits.append(len(pretended.waits))
    assert waits[0] <= 1 + WAITS_OF_A_BLOCK
    assert waits[1] <= 1 + WAITS_OF_A_BLOCK * 10


def folding(tables: MatrixFactorization, head: RelevanceHead, seen: TrainingRatings) -> FoldIn:
    return FoldIn.of(tables, FoldInPrior.learn(tables, seen), head, seen.counts(tables.items))


def test_users_are_folded_in_as_on_the_cpu(gpu: PretendedCuda) -> None:
    draw, host = np.random.default_rng(0), model(50, 300)
    cells_N = draw.choice(50 * 300, 2_000, replace=False)
    ratings_N = draw.integers(1, 6, 2_000).astype(np.float32)
    seen = TrainingRatings.from_ratings(*(part.astype(np.int32) for part in divmod(cells_N, 300)), ratings_N, 50)
    head = RelevanceHead(host.user_factors, host.item_factors, 0.1 * host.item_factors, RULE)
    cpu = folding(host, head, seen)
    cuda = folding(host.to("cuda"), head.to("cuda"), seen.to(torch.device("cuda")))
    for count in (1, 5, 60):
        columns_N, given_N = draw.permutation(300)[:count], draw.uniform(1, 5, count)
        expected, found = (fold.users.solve(columns_N, given_N) for fold in (cpu, cuda))
        np.testing.assert_allclose(found.factors, expected.factors, rtol=1e-3, atol=1e-4)
        assert (found.bias, found.variance) == pytest.approx((expected.bias, expected.variance), rel=1e-3)
        np.testing.assert_allclose(
            cuda.head.solve(columns_N, given_N), cpu.head.solve(columns_N, given_N), rtol=1e-3, atol=1e-4
        )
    expected, found = (fold.users.solve_many(seen.offsets, seen.items_N, seen.ratings_N) for fold in (cpu, cuda))
    assert found.factors_RF.device.type == "cuda"
    torch.testing.assert_close(found.factors_RF.cpu(), expected.factors_RF, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.variance_R.cpu(), expected.variance_R, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
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
