"""Threads and memory."""

from __future__ import annotations

import os

import torch

from training.device import peak_memory_mb, use_threads


def test_threads_are_set_and_told() -> None:
    before = torch.get_num_threads()
    chosen = use_threads(1)
    unchanged = use_threads(None)
    torch.set_num_threads(before)
    assert (chosen, unchanged) == (1, 1)


def test_peak_memory_is_of_this_process() -> None:
    total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    assert 50 < peak_memory_mb(torch.device("cpu")) < total_mb
