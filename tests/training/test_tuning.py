"""The search for settings: what it may use, what it writes, how it ends and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training import tuning
from training.config import JobConfig, load_preset
from training.constants import preset_names
from training.data.split import parse_split
from training.data.synthetic import planted
from training.data.train_test import read
from training.errors import ConfigError, DataError
from training.search_space import Choices, Range, parse_space
from training.tuning import Search, searched, tune

RANGES = ("user_regularisation={from=0.5,to=80.0,log=true}", "item_regularisation={from=0.5,to=80.0,log=true}")


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> str:
    columns = [column.tolist() for column in planted(80, 50, 1_500, np.random.default_rng(0))]
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    rows = [f"u{user},i{item},{rating}" for user, item, rating in zip(*columns, strict=True)]
    path.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    return str(path)


def config(ratings: str, **changes: Any) -> JobConfig:
    options = {"data": [ratings], "preset": "bias", "cache": Path(ratings).parent, "device": "cpu"}
    return JobConfig(**(options | {"split": "random:0.2", "overrides": ["epochs=2"]} | changes))


def tuned(ratings: str, out: Path, values: Sequence[str] = RANGES, **changes: Any) -> dict[str, Any]:
    search = {key: changes.pop(key) for key in ("fits", "seconds", "aim", "inner", "resume") if key in changes}
    return tune(config(ratings, **changes), Search(out=out, values=values, **search), lambda _: None)


def test_the_best_fit_is_written_as_a_preset_that_loads(ratings: str, tmp_path: Path) -> None:
    found = tuned(ratings, tmp_path / "best.toml", fits=6)
    values = [each["value"] for each in found["tried"]]
    assert (len(values), found["fits"], found["best"]) == (6, 6, min(values))
    assert found["tried"][0]["settings"] == {"user_regularisation": 15.0, "item_regularisation": 10.0}
    assert found["start"] == values[0]
    written = load_preset(str(tmp_path / "best.toml"))
    best = found["tried"][found["best_fit"] - 1]["settings"]
    assert written.settings.model_dump() == {"epochs": 2, **best}
    assert written.space == load_preset("bias").space
    assert "6 fits of bias" in (tmp_path / "best.toml").read_text().splitlines()[0]


def test_the_held_out_ratings_take_no_part_in_the_search(ratings: str, tmp_path: Path) -> None:
    outer = read(config(ratings))
    inner = outer.inner(parse_split("random:0.2"), np.random.default_rng(1))
    assert inner.held_out is not None
    assert outer.held_out is not None
    names = [
        {(part.user_ids[u].as_py(), part.item_ids[i].as_py()) for u, i in zip(part.users_N, part.items_N, strict=True)}
        for part in (inner.train, inner.held_out, outer.held_out)
    ]
    assert [len(pairs) for pairs in names] == [960, 240, 300]
    assert not (names[0] | names[1]) & names[2]
    assert len(names[0] | names[1]) == 1_200


def test_with_a_test_part_the_result_is_measured_on_it_and_without_one_it_is_not(ratings: str, tmp_path: Path) -> None:
    found = tuned(ratings, tmp_path / "best.toml", fits=1)
    assert found["test"]["start"] == found["test"]["best"] != found["best"]
    assert tuned(ratings, tmp_path / "best.toml", fits=1, split="none")["test"] is None


def test_a_search_goes_on_where_it_was_interrupted(
    ratings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, out, measured = tmp_path / "saved", tmp_path / "best.toml", tuning.measured
    calls = 0

    def interrupted(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(tuning, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(ratings, out, fits=5, resume=saved)
    assert out.exists()
    found = tuned(ratings, out, fits=5, resume=saved, split="random:0.2")
    assert found["fits"] == 5
    assert calls == 3 + 3 + 2  # two were done; the interrupted one and two more, and two on the held-out ratings


def test_a_saved_search_of_something_else_is_refused(ratings: str, tmp_path: Path) -> None:
    saved, out = tmp_path / "saved", tmp_path / "best.toml"
    tuned(ratings, out, fits=1, resume=saved)
    with pytest.raises(ConfigError, match="it is of another search"):
        tuned(ratings, out, fits=1, resume=saved, seed=1)
    for content in ("hello\n", "[1]\n", '{"op_code": 99}\n'):
        saved.write_text(content)
        with pytest.raises(ConfigError, match="not a file of `tune`"):
            tuned(ratings, out, fits=1, resume=saved)


def test_a_line_that_a_killed_search_left_half_written_is_dropped(ratings: str, tmp_path: Path) -> None:
    saved, out = tmp_path / "saved", tmp_path / "best.toml"
    tuned(ratings, out, fits=2, resume=saved)
    whole = saved.read_bytes()
    saved.write_bytes(whole[:-20])
    assert tuned(ratings, out, fits=3, resume=saved)["fits"] == 3
    assert tuned(ratings, out, fits=3, resume=saved)["fits"] == 3


def test_a_time_too_short_for_one_fit_is_an_error_and_one_too_short_for_two_is_not(
    ratings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(10_000))
    monkeypatch.setattr("training.tuning.time.monotonic", lambda: float(next(times)))
    with pytest.raises(ConfigError, match="1 s are too short for one fit, which takes at least"):
        tuned(ratings, tmp_path / "best.toml", seconds=1.0)
    assert not (tmp_path / "best.toml").exists()
    assert 1 <= tuned(ratings, tmp_path / "best.toml", seconds=12.0)["fits"] < 12


def test_a_fit_that_fails_is_passed_over(ratings: str, tmp_path: Path) -> None:
    options = {"preset": "textbook", "overrides": ["epochs=1"]}
    found = tuned(ratings, tmp_path / "best.toml", ["learning_rate=[1e35]"], fits=4, **options)
    assert 1 <= found["fits"] < 4
    assert found["settings"] == [{"name": "learning_rate", "start": 0.002, "best": 0.002}]
    options["overrides"] = ["epochs=1", "initial_deviation=1e30"]
    with pytest.raises(ConfigError, match="none of 2 fits could be completed"):
        tuned(ratings, tmp_path / "best.toml", fits=2, values=["weight_decay=[0.0,0.1]"], **options)


def test_lists_are_tuned_by_the_settings_of_the_head(ratings: str, tmp_path: Path) -> None:
    options = {"preset": "als", "overrides": ["relevance.factors=4", "relevance.sweeps=1"]}
    values = ["relevance.slope=[0.1,0.5]", "factors=[1,2]"]
    found = tuned(ratings, tmp_path / "best.toml", values, aim="ndcg10", fits=2, relevant=3.5, **options)
    assert found["fits"] == 2
    assert [row["name"] for row in found["settings"]] == ["relevance.slope"]
    assert found["best"] == max(each["value"] for each in found["tried"])


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_can_be_searched(name: str) -> None:
    """`searched` refuses values that are not accepted."""
    preset = load_preset(name)
    assert len(searched(preset, Search(out=Path("x.toml")), set()).space) > 1
    only = searched(preset, Search(out=Path("x.toml")), set(list(preset.space)[:1]))
    assert next(iter(preset.space)) not in only.space


def test_a_space_is_a_list_or_a_range() -> None:
    found = parse_space({"a": [1, 2], "b": {"from": 1, "to": 2.5}, "c": {"from": 1, "to": 9, "log": True}}, "here")
    assert found == {"a": Choices((1, 2)), "b": Range(1.0, 2.5), "c": Range(1, 9, log=True)}
    assert found["b"].including(7) == Range(1.0, 7.0)
    assert found["a"].including(0) == Choices((0, 1, 2))


BAD_VALUES = [
    "x=[]", "x=3", "x={from=1}", "x={from=2,to=1}", "x={from=0,to=1,log=true}", "x={from=1,to=2,step=1}",
    "x=[[1]]", "x={from=true,to=2}",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_VALUES)
def test_values_that_say_nothing_are_refused(ratings: str, tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--search: x must be a list of values"):
        tuned(ratings, tmp_path / "best.toml", [text], fits=1)


def test_what_cannot_be_searched_is_refused(ratings: str, tmp_path: Path) -> None:
    out, bare = tmp_path / "best.toml", tmp_path / "bare.toml"
    bare.write_text('trainer = "bias"\n')
    (tmp_path / "mine.toml").write_text('trainer = "bias"\n')
    for message, place, changes in (
        ("no setting factors of bias", out, {"values": ["factors=[1]"]}),
        ("must be a number, above 0|must be a number, at least", out, {"values": ["user_regularisation=[-1.0]"]}),
        ("nothing to search that changes rmse", out, {"values": ["epochs=[1,2]"]}),
        ("has no table", out, {"values": (), "preset": str(bare)}),
        ("ends in .toml", tmp_path / "best.txt", {}),
        ("there is no folder", tmp_path / "no" / "best.toml", {}),
        ("tune did not write it", tmp_path / "mine.toml", {}),
        ("not one of last-out", out, {"inner": "half"}),
        ("no timestamps", out, {"inner": "last-out"}),
    ):
        with pytest.raises(ConfigError, match=message):
            tuned(ratings, place, **({"fits": 1} | changes))
    with pytest.raises(DataError, match="12 ratings are held out to choose settings by: at least 100"):
        tuned(ratings, out, fits=1, inner="random:0.01")
