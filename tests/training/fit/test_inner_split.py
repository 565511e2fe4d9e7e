"""Which ratings a trial holds out."""

import dataclasses

import torch

from tests.support.data import planted_set
from training.communicator import Span
from training.fit import inner_split
from training.fit.inner_split import SHARE
from training.fit.inner_split import inner_split as split


def test_about_a_tenth_is_held_out_and_the_rest_is_kept_in_order() -> None:
    data = planted_set(users=200, items=100, ratings=10_000)
    kept, held_out_N = split(data, seed=2**62 + 12345)
    assert abs(held_out_N.double().mean().item() - SHARE) < 0.01
    for name in ("users_N", "items_N", "ratings_N"):
        assert torch.equal(getattr(kept, name), getattr(data, name)[~held_out_N])
    assert (kept.users, kept.items) == (data.users, data.items)


def test_another_seed_holds_out_others() -> None:
    data = planted_set(users=200, items=100, ratings=10_000)
    both = torch.stack([split(data, seed)[1] for seed in (1, 2)]).double()
    assert abs(both.prod(0).mean().item() - SHARE**2) < 0.005


def test_a_pair_is_held_out_whichever_rank_has_it() -> None:
    data = planted_set(users=200, items=100, ratings=10_000)
    here_N = data.users_N >= 120
    part = dataclasses.replace(
        data,
        users=80,
        users_N=data.users_N[here_N] - 120,
        items_N=data.items_N[here_N],
        ratings_N=data.ratings_N[here_N],
        users_here=Span((0, 120, 200), 1),
    )
    assert torch.equal(split(part, seed=5)[1], split(data, seed=5)[1][here_N])


def test_of_very_many_ratings_a_smaller_share_is_enough(monkeypatch: object) -> None:
    monkeypatch.setattr(inner_split, "MOST", 100)  # type: ignore[attr-defined]
    data = planted_set(users=200, items=100, ratings=10_000)
    assert 60 < int(split(data, seed=3)[1].sum()) < 140
