"""The loop, driven by trainers that report what they are told to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pydantic import ConfigDict

from models.mf import MatrixFactorization
from tests.support.data import training_set
from training.errors import DivergedError
from training.fit.loop import Epoch, fit
from training.fit.trainer import Trainer, TrainerSettings
from training.progress import describe


class Settings(TrainerSettings):
    model_config = ConfigDict(allow_inf_nan=True)

    losses: tuple[float, ...]


class Scripted(Trainer[Settings]):
    """Reports the losses it was given; its model has the mean that was reported last."""

    Settings = Settings
    passes = 0

    @property
    def epochs(self) -> int:
        return len(self.settings.losses)

    def epoch(self) -> Mapping[str, torch.Tensor]:
        self.passes += 1
        return {"loss": torch.tensor(self.settings.losses[self.passes - 1]), "passes": torch.tensor(self.passes)}

    def model(self) -> MatrixFactorization:
        tables = (torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(2), torch.zeros(2))
        return MatrixFactorization(torch.tensor(self.settings.losses[self.passes - 1]), *tables)

    def state(self) -> Mapping[str, torch.Tensor]:
        return {"passes": torch.tensor(self.passes)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.passes = int(state["passes"])


def scripted(*losses: float) -> Scripted:
    return Scripted(
        training_set([(0, 0, 3.0)], 1, 1), Settings.model_construct(losses=losses), np.random.default_rng(0)
    )


def ignore(_: Epoch) -> None:
    pass


def test_history_holds_what_each_epoch_reported() -> None:
    reported: list[Epoch] = []
    history = fit(scripted(3.0, 2.0, 1.0), None, reported.append)
    assert history == reported
    assert [epoch.figures for epoch in history] == [
        {"loss": 3.0, "passes": 1.0},
        {"loss": 2.0, "passes": 2.0},
        {"loss": 1.0, "passes": 3.0},
    ]
    assert [(epoch.number, epoch.epochs, epoch.test_rmse) for epoch in history] == [(n, 3, None) for n in (1, 2, 3)]


def test_the_held_out_error_is_of_the_model_after_each_epoch() -> None:
    history = fit(scripted(3.0, 2.0), lambda model: float(model.mean), ignore)
    assert [epoch.test_rmse for epoch in history] == [3.0, 2.0]


def test_the_time_of_an_epoch_includes_that_of_the_epochs_before_it() -> None:
    first, second = fit(scripted(3.0, 2.0), None, ignore)
    assert 0 < first.fit_seconds < second.fit_seconds
    assert second.examples_per_second == pytest.approx(2 / second.fit_seconds)
    assert first.seconds_left == pytest.approx(first.fit_seconds)
    assert second.seconds_left == 0


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_fit_at_once(loss: float) -> None:
    reported: list[Epoch] = []
    with pytest.raises(DivergedError, match=f"the training loss is {loss} after epoch 2"):
        fit(scripted(1.0, loss, 1.0), None, reported.append)
    assert [epoch.number for epoch in reported] == [1]


def test_a_fit_goes_on_from_its_history() -> None:
    trainer, saved = scripted(3.0, 2.0, 1.0), list[int]()
    earlier = fit(scripted(3.0), None, ignore)
    trainer.restore({"passes": torch.tensor(1)})
    history = fit(trainer, None, ignore, earlier, lambda _, epochs: saved.append(len(epochs)))
    assert [epoch.figures["loss"] for epoch in history] == [3.0, 2.0, 1.0]
    assert history[0] == earlier[0]
    assert history[1].fit_seconds > earlier[0].fit_seconds
    assert saved == [2, 3]


def test_a_line_of_progress_says_epoch_loss_error_speed_and_time_left() -> None:
    epoch = Epoch(2, 8, {"loss": 0.51236}, 0.98765, fit_seconds=3.0, examples_per_second=123456.0)
    assert describe(epoch) == "epoch 2/8  loss 0.5124  RMSE 0.9877  123,456 examples/s  9.0 s left"


def test_a_pass_is_reported_under_the_name_it_was_given() -> None:
    (epoch,) = fit(scripted(1.0), None, ignore, name="relevance")
    assert describe(epoch).startswith("relevance 1/1  loss 1.0000  ")


def test_a_long_fit_is_evaluated_at_some_epochs_and_at_the_last() -> None:
    history = fit(scripted(*[1.0] * 100), lambda _: 0.5, ignore)
    measured = [epoch.number for epoch in history if epoch.test_rmse is not None]
    assert measured == [*range(4, 100, 4), 100]
