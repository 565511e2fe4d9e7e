import pytest
import torch

from app.engine.device import choose_device, choose_place
from app.engine.errors import DeviceUnavailableError
from models.sharding import DevicePlacement


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_can_be_asked_for() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(DeviceUnavailableError, match="cuda:99"):
        choose_device("cuda:99")


def test_one_device_holds_the_whole_model() -> None:
    assert choose_place("cpu") == DevicePlacement(torch.device("cpu"))


def test_several_devices_share_the_items_and_the_host_keeps_the_rest() -> None:
    place = choose_place("cpu,cpu")
    assert place == DevicePlacement(torch.device("cpu"), (torch.device("cpu"), torch.device("cpu")))
    assert str(place) == "cpu,cpu"


def test_a_list_of_devices_is_refused_for_one_that_is_not_there() -> None:
    with pytest.raises(DeviceUnavailableError, match="cuda:98"):
        choose_place("cuda:98,cuda:99")
