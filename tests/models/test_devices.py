from __future__ import annotations

import pytest
import torch

from models.devices import DevicePlacement, choose_device, choose_placement
from models.errors import DeviceUnavailableError

CPU, META = torch.device("cpu"), torch.device("meta")


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "cuda:99", "cpu cuda"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DeviceUnavailableError, match=f"no device '{name}'"):
        choose_device(name)


def test_one_device_holds_the_whole_model() -> None:
    assert choose_placement("cpu") == DevicePlacement(CPU)


@pytest.mark.parametrize(
    ("placement", "name", "is_cpu_alone"),
    [
        (DevicePlacement(CPU), "cpu", True),
        (DevicePlacement(META), "meta", False),
        (DevicePlacement(CPU, (CPU, META)), "cpu,meta", False),
    ],
)
def test_a_placement_names_its_devices(placement: DevicePlacement, name: str, is_cpu_alone: bool) -> None:
    assert (str(placement), placement.is_cpu_alone) == (name, is_cpu_alone)


def test_several_devices_share_the_items_and_the_host_keeps_the_rest() -> None:
    placement = choose_placement("cpu,cpu")
    assert placement == DevicePlacement(CPU, (CPU, CPU))
    assert str(placement) == "cpu,cpu"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cpu,gpu", "no device 'gpu'"),
        ("cuda:98,cuda:99", "no device 'cuda:98'"),
        ("cpu,auto", "no devices 'cpu,auto': several devices must be all cpu"),
    ],
)
def test_a_list_of_devices_that_cannot_be_is_refused(names: str, message: str) -> None:
    with pytest.raises(DeviceUnavailableError, match=message):
        choose_placement(names)
