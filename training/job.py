"""The offline job as a recipe: read → split → fit → evaluate → publish. Each step is a module of its own."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint import ITEM_SCHEMA
from models.manifest import DataRecord, Manifest, TrainerRecord
from models.mf import MatrixFactorization
from models.publication import Draft, publish
from models.seen import SeenItems
from training.config import Preset, load_preset
from training.data.dataset import Dataset, load
from training.data.interactions import Interactions
from training.data.split import parse_split, split
from training.errors import ConfigError, DataError
from training.evaluate import TestSet, evaluate, make_test_set, predict, test_rmse
from training.loop import Epoch, fit
from training.report import write_report
from training.trainer import Trainer, TrainingSet

log = logging.getLogger(__name__)
