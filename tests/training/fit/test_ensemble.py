"""What the samples of chains predict, and how many sweeps there are."""

from collections.abc import Iterator

import pytest
import torch

from tests.support.data import planted_set
from training.fit.ensemble import Ensemble, Variant, fewer, sources
from training.fit.kernels.gibbs import SHARE_POWER
from training.fit.kernels.gibbs_cpu import CpuRows
from training.fit.kernels.posterior import predicted


def test_a_pair_is_predicted_with_the_effect_of_the_user_on_an_item_of_one_more_rating() -> None:
    data = planted_set(users=30, items=20, ratings=200)
    ensemble = Ensemble(data, [Variant(implicit=True, user_freedom=0, item_freedom=0)], factors=7, seed=1)
    ensemble.sweep(0, lambda _: None)
    (sample,) = ensemble.samples(1)
    user, item = sample.chain.user, sample.chain.item
    counts_I = data.item_totals()
    share = ((counts_I[5] + 1) * counts_I.double().mean()) ** -SHARE_POWER

    tables = sample.tables()
    both = predicted(*tables, torch.tensor([3, 30]), torch.tensor([5, 5]))

    row_K = item.table_RK[5] + share * user.effect_RK[3]
    expected = user.table_RK[3, :-1] @ row_K[:-1] + user.table_RK[3, -1] + row_K[-1]
    assert float(both[0]) == pytest.approx(float(expected), abs=1e-5)
    unknown_K = user.unknown_K
    assert float(both[1]) == pytest.approx(
        float(unknown_K[:-1] @ item.table_RK[5, :-1] + unknown_K[-1] + item.table_RK[5, -1]), abs=1e-5
    )


@pytest.mark.parametrize(("chains", "cores", "threads"), [(1, 2, 2), (2, 2, 1), (3, 2, 2), (2, 4, 4), (4, 4, 1)])
def test_the_kernels_of_chains_use_all_cores_where_cores_would_have_unequal_numbers_of_chains(
    chains: int, cores: int, threads: int
) -> None:
    assert threads_of(started(chains, cores)) == [threads] * chains


def test_a_chain_that_goes_on_alone_gets_all_cores_and_draws_what_it_would_draw_on_one() -> None:
    alone = []
    for cores in (1, 2):
        ensemble = started(2, cores)
        ensemble.keep([1])
        ensemble.sweep(1, lambda _: None)
        assert threads_of(ensemble) == [cores]
        alone.append(ensemble.state())
    for name, table in alone[0].items():
        assert torch.equal(alone[1][name], table)


def started(chains: int, cores: int) -> Ensemble:
    """Chains after a sweep; the number of cores stays as it is until the next call."""
    torch.set_num_threads(cores)
    variants = [Variant(implicit=bool(chain % 2), user_freedom=0, item_freedom=0) for chain in range(chains)]
    ensemble = Ensemble(planted_set(users=30, items=20, ratings=200), variants, factors=7, seed=1)
    ensemble.sweep(0, lambda _: None)
    return ensemble


def threads_of(ensemble: Ensemble) -> list[int]:
    """Of the kernels of each chain."""
    rows = [chain.item.rows for chain in ensemble.chains]
    return [each.threads for each in rows if isinstance(each, CpuRows)]


@pytest.fixture(autouse=True)
def cores_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_chains_of_a_variant_are_gone_on_from_in_turn() -> None:
    assert sources([0, 1, 0], [0, 0, 0, 1, 2]) == [0, 2, 0, 1, None]


def test_many_ratings_have_fewer_sweeps_but_never_less_than_the_least_share() -> None:
    assert [fewer(150, times, 0.25) for times in (0, 1, 2, 50)] == [150, 150, 75, 38]
