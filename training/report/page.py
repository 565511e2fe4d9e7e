"""The page: what is known of a fit, rendered by `page.html`, which escapes all text from data."""

from __future__ import annotations

import platform
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from models.checkpoint.manifest import GateRecord
from training.report import formatting, plots, sample_users, sections
from training.results import Result, settings

LONGEST = 500  # characters of a title, an id or a setting; the rest is cut off
FIGURES = (  # name, label and meaning, as in docs/evaluation.md
    ("rmse", "RMSE", "unclipped predictions, in rating units; lower is better"),
    ("mae", "MAE", "mean absolute error, in rating units; lower is better"),
    ("rmse_clipped", "RMSE, clipped", "predictions clipped to the scale, as the service answers"),
    ("user_rmse", "RMSE by user", "mean of each user’s RMSE: every user has the same weight"),
    ("coverage90", "Coverage of 90 %", "share of ratings inside their 90 % intervals"),
    ("nll", "Negative log-likelihood", "of the ratings under the predicted distributions, in nats; lower is better"),
    ("ndcg10", "NDCG@10", "lists of ten in their default order; higher is better"),
    ("recall10", "Recall@10", "share of a user’s relevant items in the list of ten"),
    ("ndcg10_rating", "NDCG@10 by r̂", "lists ordered by expected rating"),
    ("train_loss", "Training loss", "mean squared error of the training ratings in the last pass"),
)


def render(result: Result, gate: GateRecord) -> str:
    """The page as HTML."""
    found = _templates().get_template("page.html")
    return found.render(
        result=result,
        gate=gate,
        figures=result.figures(),
        names=FIGURES,
        settings=list(_flat(settings(result.preset))),
        environment=_environment(result),
        data=sections.data(result),
        errors=sections.errors(result),
        learning=plots.learning_curve(result.evaluated.history),
        users=sample_users.sample(result),
        refitted=result.evaluated is not result.fitted,
        same_ratings=_same_ratings(result),
    )


def _same_ratings(result: Result) -> bool:
    """Whether both versions were measured on the same ratings."""
    if result.served is None:
        return False
    data, seed = result.served.data, result.served.trainer.seed
    theirs = (data.fingerprint, data.split, seed)
    return theirs == (result.train_test.dataset.fingerprint, result.run["split"], result.run["seed"])


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    templates.filters |= {
        name: getattr(formatting, name) for name in ("count", "figure", "short", "signed", "percent", "compared")
    } | {"along": _along}
    return templates


def _plain(value: object) -> object:
    """Text without control characters, which HTML does not allow, and cut to `LONGEST`."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = "".join(
        "\N{REPLACEMENT CHARACTER}" if _is_control(character) else character for character in value[:LONGEST]
    )
    return f"{text}…" if len(value) > LONGEST else text


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n"


def _along(rating: float, scale: tuple[float, float]) -> float:
    """The position of a rating on its scale, from 0 to 100."""
    low, high = scale
    return round(100 * (rating - low) / (high - low), 1) if high > low else 50.0


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by name; those of a group as `group.name`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _environment(result: Result) -> list[tuple[str, str]]:
    return [
        ("Device", str(result.run["device"])),
        ("CPU threads", str(result.run["threads"])),
        ("Seed", str(result.run["seed"])),
        ("Ratecast", version("ratecast")),
        ("Python", platform.python_version()),
        ("PyTorch", str(torch.__version__)),
        ("NumPy", np.__version__),
    ]
