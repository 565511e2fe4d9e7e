"""What the documentation calls commands, options, targets and settings exists, and the command line is in it."""

from __future__ import annotations

import re

import click
import pytest

from app.__main__ import serve
from app.settings import PREFIX, Settings
from tests.support.pages import PAGES, ROOT
from training.cli.program import cli
from training.config import load_preset

TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)
NAMES = TEXT + "\n".join(page.read_text("utf-8") for page in sorted((ROOT / "docs/adr").glob("*.md")))
MADE_ON_THE_PAGE = {*re.findall(r'title="([^"]+)"', TEXT), "training/fit/trainers/NAME.py"}
CODE = re.findall(r"`([^`\n]+)`", TEXT) + re.findall(
    r"^(?:\S*/)?(ratecast .*)$", TEXT.replace("\\\n", " "), re.MULTILINE
)
OTHER_VARIABLES = {"RATECAST_CACHE", "RATECAST_KEY"}


@pytest.mark.parametrize(
    "name", sorted({name for text in CODE for name in re.findall(r"\bratecast ([a-z][\w-]*)", text)})
)
def test_a_command_that_is_named_exists(name: str) -> None:
    assert name in {**cli.commands, "serve": serve}


def test_every_option_is_one_of_its_command() -> None:
    used = [match for text in CODE for match in re.findall(r"\bratecast (?!serve)([a-z][\w-]*)([^|]*)", text)]
    assert len(used) > 20
    for name, arguments in used:
        context = click.Context(cli.commands[name])
        known = {word for parameter in cli.commands[name].get_params(context) for word in parameter.opts}
        assert set(re.findall(r"(?<= )--[\w-]+", arguments)) <= known, (name, arguments)


def test_every_flag_is_one_of_the_service() -> None:
    used = [word for text in CODE if "ratecast serve" in text for word in re.findall(r"(?<= )--([\w-]+)", text)]
    context = click.Context(serve)
    assert {f"--{word}" for word in used} <= {
        word for parameter in serve.get_params(context) for word in parameter.opts
    }


def test_every_path_into_the_repository_exists() -> None:
    folders = "app|models|training|client|tests|benchmarks|deploy|docs"
    paths = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", NAMES)) - MADE_ON_THE_PAGE
    assert len(paths) > 50
    places = (ROOT, ROOT / "tests")  # docs/security.md names tests from there
    assert [path for path in sorted(paths) if not any((place / path).exists() for place in places)] == []


def test_every_target_is_one_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)[^`]*`|^make ([a-z-]+)", TEXT, re.MULTILINE)) <= {
        pair for name in targets for pair in ((name, ""), ("", name))
    }


def test_every_variable_is_one_that_is_read() -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"RATECAST_[A-Z_]+[A-Z]", TEXT)) <= settings | OTHER_VARIABLES


def test_every_variable_of_the_compose_file_is_on_the_page_about_deploying() -> None:
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text("utf-8")))
    assert variables <= set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs/deploy.md").read_text("utf-8")))


def test_the_numbers_in_how_it_works_are_those_of_the_presets() -> None:
    text = (ROOT / "docs/how-it-works.md").read_text("utf-8")
    bias, bayes, als = (load_preset(name) for name in ("bias", "bayes", "als"))
    head = bayes.relevance
    assert head is not None
    said = [
        "λ₁ = {item_regularisation:g} and λ₂ = {user_regularisation:g}".format(**bias.settings.model_dump()),
        "ν = {user_freedom:g} for users and {item_freedom:g} for items".format(**bayes.settings.model_dump()),
        "a chain of each variant runs for {trial} sweeps".format(**bayes.settings.model_dump()),
        "{burn_in} sweeps are thrown away, and the {samples} after".format(**bayes.settings.model_dump()),
        f"1 + {head.slope:g} (r − μ)/σ",
        f"weight w = {head.missing_weight:g}",
    ]
    assert [sentence for sentence in said if sentence not in " ".join(text.split())] == []
    assert als.settings.model_dump()["sweeps"] == 6
