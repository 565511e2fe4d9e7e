"""Presets and overrides: what is there, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import config
from training.constants import preset_names
from training.errors import ConfigError
from training.fit import trainers
from training.fit.relevance_settings import RelevanceSettings
from training.fit.trainers.adam import AdamSettings


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_says_what_it_is(name: str) -> None:
    preset = config.load_preset(name)
    assert preset.name == name
    assert preset.description
    assert preset.trainer in trainers.names()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("factors=8", "factors", 8),
        ("learning_rate=1e-3", "learning_rate", 0.001),
        ("weight_decay=0", "weight_decay", 0.0),
    ],
)
def test_an_override_replaces_one_setting(override: str, key: str, value: float) -> None:
    found = config.load_preset("textbook", [override]).settings.model_dump()
    assert found == AdamSettings().model_dump() | {key: value}


def test_the_last_of_two_overrides_counts() -> None:
    settings = config.load_preset("textbook", ["epochs=3", "epochs=4"]).settings
    assert settings.model_dump()["epochs"] == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("factors", "--set 'factors' is not KEY=VALUE"),
        ("=3", "--set '=3' is not KEY=VALUE"),
        ("faktors=3", "no setting faktors; trainer adam has the settings factors, epochs"),
        ("factors=many", "setting factors: must be a whole number, at least 1, at most 4096, not "),
        ("factors=0", "setting factors: must be a whole number, at least 1, at most 4096, not 0"),
        ("factors=2.5", "setting factors: must be a whole number, at least 1, at most 4096, not "),
        ("factors=", "setting factors: "),
        ("factors=true", "setting factors: must be a whole number, at least 1, at most 4096, not True"),
        ("learning_rate=false", "setting learning_rate: must be a number, above 0, not False"),
        ("learning_rate=-1", "setting learning_rate: must be a number, above 0, not -1"),
        ("learning_rate=nan", "setting learning_rate: "),
        ("learning_rate=inf", "setting learning_rate: must be a number, above 0, not inf"),
        ("epochs=[1]", "setting epochs: must be a whole number, at least 1, not [1]"),
    ],
)
def test_a_bad_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load_preset("textbook", [override])
    assert str(caught.value).startswith(message)


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="setting effects: must be auto or yes or no, not maybe"):
        config.load_preset("bayes", ["effects=maybe"])
    assert config.load_preset("bayes", ["effects=no"]).settings.model_dump()["effects"] == "no"


SERVING = ["als", "bayes"]


def test_presets_for_serving_have_a_relevance_head() -> None:
    with_head = [name for name in preset_names() if config.load_preset(name).relevance is not None]
    assert with_head == SERVING


@pytest.mark.parametrize("name", SERVING)
def test_their_heads_have_the_default_settings_but_for_the_rank(name: str) -> None:
    head = config.load_preset(name, ["relevance.factors=64"]).relevance
    assert head == RelevanceSettings()


@pytest.mark.parametrize(
    ("preset", "overrides", "expected"),
    [
        ("als", ["relevance=false"], None),
        ("als", ["relevance.factors=9"], RelevanceSettings(factors=9)),
        ("als", ["relevance=false", "relevance.factors=9"], RelevanceSettings(factors=9)),
        ("als", ["relevance.factors=9", "relevance=false"], None),
        ("als", ["relevance.factors=9", "relevance=true"], RelevanceSettings(factors=9)),
        ("textbook", [], None),
        ("textbook", ["relevance=true"], RelevanceSettings()),
        ("textbook", ["relevance.sweeps=3"], RelevanceSettings(sweeps=3)),
    ],
)
def test_overrides_reach_the_head(preset: str, overrides: list[str], expected: RelevanceSettings | None) -> None:
    found = config.load_preset(preset, overrides)
    assert found.relevance == expected
    assert found.settings == config.load_preset(preset).settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("relevance=3", "setting relevance: must be true or false; use relevance.KEY=VALUE for its own settings"),
        ("relevance=no", "setting relevance: must be true or false"),
        ("relevance.faktors=3", "no setting relevance.faktors; the relevance head has the settings factors, "),
        (
            "relevance.factors=0",
            "setting relevance.factors: must be a whole number, at least 1, at most 1024, not 0",
        ),
        ("relevance.factors=1e9", "setting relevance.factors: must be"),
        (
            "relevance.missing_weight=1",
            "setting relevance.missing_weight: must be a number, above 0, below 1, not 1",
        ),
        (
            "relevance.missing_weight=0",
            "setting relevance.missing_weight: must be a number, above 0, below 1, not 0",
        ),
        ("relevance.regularisation=nan", "setting relevance.regularisation: must be"),
        ("relevance.=3", "no setting relevance.; the relevance head has the settings"),
    ],
)
def test_a_bad_setting_of_the_head_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load_preset("als", [override])
    assert str(caught.value).startswith(message)


def test_a_preset_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('trainer = "adam"\n[settings]\nfactors = 2\n')
    preset = config.load_preset(str(file), ["epochs=1"])
    assert (preset.name, preset.trainer, preset.description) == ("mine", "adam", "")
    assert preset.settings == AdamSettings(factors=2, epochs=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "KeyError: 'trainer'"),
        ("trainer = ", "TOMLDecodeError"),
        ('trainer = "nobody"', "no trainer 'nobody'; there are adam, "),
        ('trainer = "adam"\nsettings = 3', "TypeError"),
        ('trainer = "adam"\n[settings]\nx = 1', "no setting x; trainer adam has"),
        ('trainer = "adam"\nrelevance = 3', "TypeError"),
        ('trainer = "adam"\n[relevance]\nx = 1', "no setting relevance.x; "),
        ('trainer = "../adam"', "no trainer"),
    ],
)
def test_a_bad_preset_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        config.load_preset(str(file))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "", "../textbook", "/etc/passwd", "nothing.toml", "\0.toml"])
def test_an_unknown_preset_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="preset"):
        config.load_preset(name)


def test_the_message_lists_the_presets_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'nothing'; there are .*bias.*textbook"):
        config.load_preset("nothing")


def test_a_word_that_is_nearly_right_is_mended() -> None:
    for wrong, override, meant in (("bayse", "", "bayes"), ("ALS", "", "als"), ("als", "factor=3", "factors")):
        with pytest.raises(ConfigError, match=f": did you mean '{meant}'\\?$"):
            config.load_preset(wrong, [override] if override else [])


def test_every_file_of_a_trainer_holds_one() -> None:
    assert [trainers.find(name).__module__ for name in trainers.names()] == [
        f"training.fit.trainers.{name}" for name in trainers.names()
    ]
