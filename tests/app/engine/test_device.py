import pytest
import torch

from app.engine.device import choose_device
from app.engine.errors import DeviceUnavailableError


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_can_be_asked_for() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(DeviceUnavailableError, match="cuda:99"):
        choose_device("cuda:99")
