"""Our presets as models for `accuracy.py`, fitted by the trainers and the loop that `python -m training fit` uses."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from worker import Bilinear, Model, Task, Watch, serve

from models.devices import choose_device
from training.config import load_preset
from training.constants import preset_names
from training.fit.loop import fit_after_trial
from training.fit.trainer import TrainingSet


def fit_preset(name: str, task: Task, watch: Watch) -> Bilinear:
    """The time includes what the trainer prepares, unlike `fit_seconds` of the job: peers prepare inside their fit."""
    preset = load_preset(name)
    torch.set_num_threads(task.threads)
    data = training_set(task, choose_device(task.device))
    with watch:
        trainer = preset.trainer_class(data, preset.settings, np.random.default_rng([task.seed, 1]))
        fit_after_trial(trainer, None, lambda _: None)
        model = trainer.model()
    names = ("user_bias", "item_bias", "user_factors", "item_factors")
    return Bilinear(float(model.mean), **{name: getattr(model, name).cpu().numpy() for name in names})


def training_set(task: Task, device: torch.device) -> TrainingSet:
    names = ("users_N", "items_N", "ratings_N", "user_attributes_UA", "item_attributes_IA", "trial_N")
    columns = {name: getattr(task, name) for name in names if getattr(task, name) is not None}
    tensors = {name: torch.from_numpy(column).to(device) for name, column in columns.items()}
    return TrainingSet(users=task.users, items=task.items, **tensors)


if __name__ == "__main__":
    serve({name: Model(f"Ratecast {name}", None, partial(fit_preset, name)) for name in preset_names()})
