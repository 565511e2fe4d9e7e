"""A pass over the ratings: each once, in an order that only the seed decides."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.data import training_set
from training.fit.minibatch import SMALL_STEP, captured, one_thread_for_small_steps, pass_over

Batches = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def batches(ratings: int, batch_size: int, seed: int) -> Batches:
    data = training_set([(n % 3, n, float(n)) for n in range(ratings)], users=3, items=ratings)
    found: Batches = []
    pass_over(data, batch_size, seed, lambda *batch: found.append(batch))
    return found


def order(found: Batches) -> list[float]:
    return torch.cat([ratings_B for _, _, ratings_B in found]).tolist()


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**62))
def test_every_rating_comes_once_with_its_user_and_item(ratings: int, batch_size: int, seed: int) -> None:
    found = batches(ratings, batch_size, seed)
    assert sorted(order(found)) == list(range(ratings))
    assert all(
        (users_B == ratings_B % 3).all() and (items_B == ratings_B).all() for users_B, items_B, ratings_B in found
    )


@given(st.integers(1, 60), st.integers(1, 70))
def test_all_batches_but_the_last_are_full(ratings: int, batch_size: int) -> None:
    *full, last = [len(ratings_B) for _, _, ratings_B in batches(ratings, batch_size, seed=0)]
    assert full == [batch_size] * len(full)
    assert last == (ratings - 1) % batch_size + 1


def test_the_seed_alone_decides_the_order() -> None:
    assert order(batches(50, 8, seed=1)) == order(batches(50, 50, seed=1))
    assert order(batches(50, 8, seed=1)) != order(batches(50, 8, seed=2))


def test_indices_are_int64_as_gathers_want_them() -> None:
    users_B, items_B, ratings_B = batches(3, 3, seed=0)[0]
    assert (users_B.dtype, items_B.dtype, ratings_B.dtype) == (torch.int64, torch.int64, torch.float32)


def test_small_steps_run_on_one_thread_and_the_number_is_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread_for_small_steps(SMALL_STEP - 1):
        small = torch.get_num_threads()
    with one_thread_for_small_steps(SMALL_STEP):
        large = torch.get_num_threads()
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (small, large, after) == (1, 2, 2)


def test_without_cuda_a_step_is_not_recorded() -> None:
    assert captured(print, 8, torch.device("cpu")) is print
