"""The page: what is known of a fit, brought to `page.html`. Whatever text comes from data is escaped there."""

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

LONGEST = 500  # characters of a title, an id or a setting: more are left out, so that the page stays small
FIGURES = (  # name, what the page calls it, what it means: as docs/evaluation.md has them
    ("rmse", "RMSE", "of unclipped predictions, in rating units; lower is better"),
    ("mae", "MAE", "mean absolute error, in rating units; lower is better"),
    ("rmse_clipped", "RMSE, clipped", "of predictions clipped to the scale, as the service answers them"),
    ("user_rmse", "RMSE by user", "mean over users of each user’s RMSE: a heavy rater counts like any other"),
    ("coverage90", "Coverage of 90 %", "share of ratings inside the intervals that should hold nine in ten"),
    ("nll", "Negative log-likelihood", "of the ratings under the stated distributions, in nats; lower is better"),
    ("ndcg10", "NDCG@10", "of the lists of ten in their default order; higher is better"),
    ("recall10", "Recall@10", "share of a user’s relevant items that the list of ten holds"),
    ("ndcg10_rating", "NDCG@10 by r̂", "of lists ordered by the expected rating"),
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
        learning=plots.of_learning(result.evaluated.history),
        people=sample_users.sample(result),
        refitted=result.evaluated is not result.fitted,
        same_ratings=_same_ratings(result),
    )


def _same_ratings(result: Result) -> bool:
    """Whether the version before was measured on the very ratings that this one was."""
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
        name: getattr(formatting, name) for name in ("count", "figure", "short", "signed", "percent", "beside")
    } | {"along": _along}
    return templates


def _plain(value: object) -> object:
    """Text without control characters, which a page cannot hold, and not longer than need be."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = "".join(
        "\N{REPLACEMENT CHARACTER}" if _is_control(character) else character for character in value[:LONGEST]
    )
    return f"{text}…" if len(value) > LONGEST else text


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n"


def _along(rating: float, scale: tuple[float, float]) -> float:
    """Where a rating stands on its scale, from 0 to 100."""
    low, high = scale
    return round(100 * (rating - low) / (high - low), 1) if high > low else 50.0


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by name, those in a group as `group.name`."""
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
