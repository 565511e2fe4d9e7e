"""The page: what is known of a fit, rendered by `page.html`, which escapes all text from data."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from models.checkpoint.manifest import GateRecord
from training.report import errors, formatting, sample_users, sections
from training.results import Result, settings

LONGEST = 500  # characters of a title, an id or a setting; the rest is cut off
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # HTML does not allow them


def render(result: Result, gate: GateRecord) -> str:
    """The page as HTML."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    filters = (formatting.count, formatting.figure, formatting.short, formatting.percent, formatting.compared, along)
    templates.filters |= {function.__name__: function for function in filters}
    return templates.get_template("page.html").render(
        result=result,
        gate=gate,
        figures=result.figures(),
        names=sections.FIGURES,
        settings=list(_flat(settings(result.preset))),
        environment=_environment(result),
        data=sections.data(result),
        errors=errors.section(result),
        previous=sections.previous(result),
        live=sections.live(result),
        learning=sections.learning_curve(result.evaluated.history),
        users=sample_users.sample(result),
        refitted=result.evaluated is not result.fitted,
    )


def _plain(value: object) -> object:
    """Text without control characters, and cut to `LONGEST`."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", value[:LONGEST]) + ("…" if len(value) > LONGEST else "")


def along(rating: float, scale: tuple[float, float]) -> float:
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
    figures = result.figures()
    speed = formatting.count(round(figures["examples_per_second"]))
    rows = [
        ("Device", str(result.run["device"])),
        ("CPU threads", str(result.run["threads"])),
        ("Seed", str(result.run["seed"])),
        ("Ratecast", version("ratecast")),
        ("Python", platform.python_version()),
        ("PyTorch", str(torch.__version__)),
        ("NumPy", np.__version__),
        ("Fitting", f"{formatting.figure(figures['fit_seconds'], 2)} s, {speed} ratings/s"),
    ]
    if (seconds := figures["relevance_seconds"]) is not None:
        rows.append(("Fitting the relevance head", f"{formatting.figure(seconds, 2)} s"))
    return rows
