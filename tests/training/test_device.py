"""Devices and threads."""

from __future__ import annotations

import os

import pytest
import torch

from models.sharding import DevicePlacement
from training.device import choose_device, choose_place, peak_memory_mb, use_threads
from training.errors import ConfigError


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("wish", ["gpu", "", "cuda:x", "meta", "cuda:99", "cpu cuda"])
def test_a_device_that_is_not_there_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match=f"no device '{wish}'"):
        choose_device(wish)


def test_threads_are_set_and_told() -> None:
    before = torch.get_num_threads()
    chosen = use_threads(1)
    unchanged = use_threads(None)
    torch.set_num_threads(before)
    assert (chosen, unchanged) == (1, 1)


def test_peak_memory_is_of_this_process() -> None:
    total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    assert 50 < peak_memory_mb(torch.device("cpu")) < total_mb


def test_several_devices_of_one_kind_share_the_items() -> None:
    assert choose_place("cpu") == DevicePlacement(torch.device("cpu"))
    assert choose_place("cpu,cpu").shards == (torch.device("cpu"), torch.device("cpu"))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("cpu,gpu", "no device 'gpu'"),
        ("cuda:98,cuda:99", "no device 'cuda:98'"),
        ("cpu,auto", "no devices 'cpu,auto': several are all cpu"),
    ],
)
def test_a_list_of_devices_that_cannot_be_is_refused(wish: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_place(wish)
