"""The report: that the page has its parts with the right figures in them, and nothing that it should not have."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.checkpoint.files import HELD_OUT_SCHEMA, read_arrow
from models.checkpoint.manifest import DataRecord, Drift, GateRecord, Manifest, ModelShape, TrainerRecord
from models.relevance import RelevanceHead
from tests.support.checkpoints import RULE
from tests.support.data import Rating
from tests.support.html import Element, parse
from tests.support.results import HISTORY, constant_model, make_result
from training.data.store import LiveError
from training.fit.loop import Epoch
from training.report import write_report
from training.report.distributions import MAX_LEVELS
from training.report.sections import FIGURES
from training.results import METRICS, Result

PASSED = GateRecord(verdict="passed")
TRAIN: list[Rating] = [(0, 0, 5), (0, 1, 4), (0, 2, 5), (1, 0, 3), (1, 3, 2), (2, 0, 4)]
TEST: list[Rating] = [(0, 3, 4), (1, 1, 1), (1, 2, 4), (3, 0, 2)]  # the last of a user that the model does not know
VARIANCES = {
    "noise_variance": torch.tensor(1.0),
    "user_variance": torch.tensor([0.0, 0.44, 0.0, 3.0]),
    "item_variance": torch.zeros(5),
}


def small_result(**changes: Any) -> Result:
    """Three users, four items; the model predicts 3.5 of everything, the baseline 3."""
    fitted = {"model": constant_model(3.5, 3, 4), "baseline": constant_model(3.0, 3, 4)}
    return make_result(**({"train": TRAIN, "test": TEST, "users": 3, "items": 4} | fitted | changes))


def page(tmp_path: Path, result: Result, gate: GateRecord = PASSED) -> Element:
    write_report(result, gate, tmp_path)
    return parse((tmp_path / "index.html").read_text("utf-8"))


def rows(document: Element, caption: str) -> list[list[str]]:
    """The body of the table with that caption, cell by cell."""
    for table in document.all("table"):
        if next(table.all("caption")).text == caption:
            (body,) = table.all("tbody")
            return [[cell.text for cell in row.all("th", "td")] for row in body.all("tr")]
    raise AssertionError(f"no table {caption!r}")


def captions(document: Element) -> set[str]:
    return {caption.text for caption in document.all("caption")}


def headings(document: Element) -> list[str]:
    return [heading.text for heading in document.all("h2")]


def test_the_page_begins_with_what_matters_most(tmp_path: Path) -> None:
    document = page(tmp_path, small_result())
    (header,) = document.all("header")
    assert "\ufffd" not in document.text
    ours, theirs = np.sqrt((0.25 + 6.25 + 0.25 + 2.25) / 4), np.sqrt((1 + 4 + 1 + 1) / 4)
    assert next(header.all("h1")).text == "Training report: set, bias"
    assert f"On 4 held-out ratings the model has an RMSE of {ours:.4f}, " in header.text
    assert f"{ours / theirs - 1:.1%} above the bias baseline’s {theirs:.4f}.".replace("%", " %") in header.text


def test_the_report_shows_the_data_in_figures(tmp_path: Path) -> None:
    table = dict(rows(page(tmp_path, small_result()), "The ratings"))
    assert table["Users, items"] == "3, 4"
    assert table["Training ratings"] == "6: 50.000 % of all pairs"
    assert table["Held-out ratings"] == "4, by random:0.1"
    assert table["Scale"] == "2 to 5"
    assert table["Mean and standard deviation"] == f"{23 / 6:.3f} and {np.std([5, 4, 5, 3, 2, 4]):.3f}"


def test_how_ratings_users_and_items_are_spread(tmp_path: Path) -> None:
    document = page(tmp_path, small_result())
    assert rows(document, "Ratings") == [["2", "1"], ["3", "1"], ["4", "2"], ["5", "2"]]
    assert rows(document, "Users by ratings given") == [["1", "1"], ["2–4", "2"]]
    assert rows(document, "Items by ratings received") == [["1", "3"], ["2–4", "1"]]
    assert rows(document, "Ratings per user and per item") == [
        ["User", "1", "1.5", "2", "2.5", "3"],
        ["Item", "1", "1", "1", "1.5", "3"],
    ]


def test_days_stand_there_where_ratings_have_times_even_far_from_today(tmp_path: Path) -> None:
    result = small_result()
    ratings = result.train_test
    times = np.array([0, 86_400, 253_402_300_800, 5, 6, 7])
    ratings = replace(ratings, train=replace(ratings.train, timestamps_N=times))
    table = dict(rows(page(tmp_path, replace(result, train_test=ratings)), "The ratings"))
    assert table["Dates (UTC)"] == "1970-01-01 to 10000-01-01"
    assert "Dates (UTC)" not in dict(rows(page(tmp_path, result), "The ratings"))


def test_figures_stand_beside_those_of_the_bias_baseline(tmp_path: Path) -> None:
    result = small_result()
    table = rows(page(tmp_path, result), "Figures of the model and of the bias baseline")
    labels = {f"{label} {meaning}": label for _, label, meaning in FIGURES}
    figures = {labels[row[0]]: row[1:] for row in table}
    assert figures["RMSE"] == [f"{result.metrics['rmse']:.4f}", f"{result.metrics['bias_rmse']:.4f}"]
    assert figures["MAE"] == [f"{(0.5 + 2.5 + 0.5 + 1.5) / 4:.4f}", f"{(1 + 2 + 1 + 1) / 4:.4f}"]
    assert figures["RMSE, clipped"][1] == figures["RMSE"][1]
    assert figures["Training loss"] == ["0.5000", "–"]
    assert "Coverage of 90 %" not in figures


def test_the_live_error_of_the_service_stands_there_where_the_store_has_one(tmp_path: Path) -> None:
    result = small_result()
    live = (LiveError("v1", "fold_in", 1200, 0.9, 0.7, None, 1.0), LiveError("v1", "model", 7, 0.8, 0.6, 0.9, 1.1))
    dataset = replace(result.train_test.dataset, live_errors=live)
    ratings = replace(result.train_test, dataset=dataset)
    table = rows(page(tmp_path, replace(result, train_test=ratings)), "Errors for the ratings that came in")
    assert table == [
        ["v1", "folded in", "1,200", "0.9000", "1.0000", "0.7000", "–"],
        ["v1", "model", "7", "0.8000", "1.1000", "0.6000", "90.0 %"],
    ]
    assert "Live error" not in headings(page(tmp_path, result))


def test_what_the_model_was_measured_by_is_kept_but_for_ids_that_it_does_not_know(tmp_path: Path) -> None:
    page(tmp_path, small_result())
    table = read_arrow(tmp_path / "held_out.arrow", HELD_OUT_SCHEMA, known=False)
    ids = small_result().measured_on.test
    users, items = ids.user_ids.to_pylist(), ids.item_ids.to_pylist()
    assert table.to_pylist() == [
        {"user": users[user], "item": items[item], "rating": float(rating), "predicted": 3.5}
        for user, item, rating in TEST[:3]
    ]


def test_no_metric_is_left_out() -> None:
    assert {name for name, _, _ in FIGURES} == {*METRICS, "train_loss"} - {"bias_rmse"}


def test_the_learning_curve_has_the_rmse_after_each_pass(tmp_path: Path) -> None:
    document = page(tmp_path, small_result())
    assert rows(document, "RMSE after each pass") == [["1", "1.5000", "1.0000"], ["2", "0.7500", "0.7071"]]


def test_a_long_fit_has_a_short_table_that_ends_with_the_last_pass(tmp_path: Path) -> None:
    history = [
        Epoch(n, 5_003, {"loss": 1.0 / n}, None, fit_seconds=1.0, examples_per_second=1.0) for n in range(1, 5_004)
    ]
    table = rows(page(tmp_path, small_result(history=history)), "RMSE after each pass")
    assert len(table) <= 101
    assert table[-1][0] == "5,003"


def test_the_report_has_the_history_as_json(tmp_path: Path) -> None:
    write_report(small_result(), PASSED, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"history.json", "index.html", "held_out.arrow"}
    assert json.loads((tmp_path / "history.json").read_text())[1] == {
        "name": "epoch",
        "number": 2,
        "epochs": 2,
        "figures": {"loss": 0.5},
        "test_rmse": 0.75,
        "fit_seconds": 1.0,
        "examples_per_second": 10.0,
    }


def test_residuals_are_shown_for_each_rating(tmp_path: Path) -> None:
    table = rows(page(tmp_path, small_result()), "Prediction minus rating")
    assert [row[:3] for row in table] == [["1", "1", "+2.50"], ["2", "1", "+1.50"], ["4", "2", "−0.50"]]


@pytest.mark.parametrize(
    "ratings",
    [np.linspace(-10, 10, 500), np.append(np.zeros(5), np.linspace(90, 100, 50)), np.full(9, 3.0), np.full(9, -1e14)],
    ids=["fine scale", "gaps in the scale", "one rating", "far from zero"],
)
def test_the_report_takes_ratings_on_any_scale(tmp_path: Path, ratings: np.ndarray) -> None:
    rated = [(0, item, float(rating)) for item, rating in enumerate(ratings)]
    held_out = [(1, item, rating) for _, item, rating in rated]
    model = constant_model(float(ratings.mean()), 2, len(rated))
    document = page(
        tmp_path, make_result([*rated, (1, len(rated) - 1, 3.0)], held_out[:-1], 2, len(rated), model, model)
    )
    assert 1 <= len(rows(document, "Prediction minus rating")) <= MAX_LEVELS
    assert sum(int(count) for _, count in rows(document, "Ratings")) == len(rated) + 1


def test_calibration_counts_the_ratings_inside_each_interval(tmp_path: Path) -> None:
    """The errors are 0.5, 2.5, 0.5 and 1.5; the deviations 1, 1.2, 1.2 and 2."""
    result = small_result(model=constant_model(3.5, 3, 4, **VARIANCES))
    table = dict(rows(page(tmp_path, result), "Ratings inside their intervals"))
    assert (table["10 %"], table["50 %"], table["60 %"], table["95 %"]) == ("0.0 %", "50.0 %", "75.0 %", "75.0 %")


def test_errors_by_the_training_ratings_of_user_and_item(tmp_path: Path) -> None:
    document = page(tmp_path, small_result())
    one_two = [f"{np.sqrt((6.25 + 0.25 + 0.25) / 3):.3f}", f"{np.sqrt((4 + 1 + 1) / 3):.3f}"]
    assert rows(document, "By the user’s training ratings") == [["0", "1", "1.500", "1.000"], ["2–4", "3", *one_two]]
    assert [row[:2] for row in rows(document, "By the item’s training ratings")] == [["1", "3"], ["2–4", "1"]]


def crowd(users: int, items: int, rng: np.random.Generator) -> tuple[list[Rating], list[Rating]]:
    """Users of different mood, some of whose ratings of all items are held out."""
    mood_U = rng.normal(size=users)
    rated = [
        (user, item, float(np.clip(3 + mood_U[user] + 0.3 * rng.normal(), 1, 5)))
        for user in range(users)
        for item in range(items)
    ]
    return [row for row in rated if row[1] % 5], [row for row in rated if not row[1] % 5]


def test_users_as_new_users_are_predicted_better_with_every_rating(tmp_path: Path) -> None:
    train, test = crowd(40, 30, np.random.default_rng(0))
    means_U = np.array([np.mean([rating for user, _, rating in train if user == row]) for row in range(40)])
    bias_U = torch.tensor(np.append(means_U - means_U.mean(), 0.0), dtype=torch.float32)
    model = constant_model(float(means_U.mean()), 40, 30, user_bias=bias_U)
    document = page(tmp_path, make_result(train, test, 40, 30, model, constant_model(3.0, 40, 30)))
    given, errors = zip(*rows(document, "New users by ratings given"), strict=True)
    assert given == ("0", "1", "2", "5", "10", "20", "all")
    numbers = [float(error) for error in errors]
    assert numbers[0] == pytest.approx(
        np.sqrt(np.mean([(rating - means_U.mean()) ** 2 for *_, rating in test])), abs=1e-3
    )
    assert numbers[0] > 2 * numbers[1] > 2 * numbers[5]
    assert numbers[5] == pytest.approx(numbers[6], abs=0.02)


def test_nobody_stands_for_new_users_where_few_have_rated_enough(tmp_path: Path) -> None:
    assert "New users by ratings given" not in captions(page(tmp_path, small_result()))


def test_a_light_a_median_and_a_heavy_rater_with_what_they_rated_and_their_lists(tmp_path: Path) -> None:
    model = constant_model(3.5, 3, 4, item_bias=torch.tensor([0, 0.2, 0.1, 9.0, 0]), **VARIANCES)
    document = page(tmp_path, small_result(model=model, titles=["Brazil", "Stalker (1979)", None, "Ran"]))
    assert [heading.text for heading in document.all("h3")][3:6] == [
        "A light rater: u2",
        "A median rater: u1",
        "A heavy rater: u0",
    ]
    assert rows(document, "Highest ratings of u0") == [
        ["Brazil (1999)", "5"],
        ["i2", "5"],
        ["Stalker (1979) (1999)", "4"],
    ]
    assert rows(document, "Recommendations for u0") == [["Ran (1999)", "5.00", "5.0 – 5.0", "rated 4"]]
    assert rows(document, "Recommendations for u1") == [
        ["Stalker (1979) (1999)", "3.70", "2.0 – 5.0", "rated 1"],
        ["i2", "3.60", "2.0 – 5.0", "rated 4"],
    ]
    assert [row[0] for row in rows(document, "Recommendations for u2")] == ["Ran (1999)", "Stalker (1979) (1999)", "i2"]


def test_lists_have_the_order_of_the_relevance_head_where_there_is_one(tmp_path: Path) -> None:
    result = small_result()
    items_I1 = torch.tensor([[1.0], [2.0], [3.0], [0.5], [0.0]])
    head = RelevanceHead(torch.ones(4, 1), items_I1, torch.zeros(5, 1), RULE)
    fitted = replace(result.fitted, head=head, head_history=HISTORY)
    document = page(tmp_path, replace(result, fitted=fitted, evaluated=fitted))
    assert [row[0] for row in rows(document, "Recommendations for u2")] == ["i2", "i1", "i3"]
    assert "ordered by relevance" in document.text
    assert "ordered by relevance" not in page(tmp_path, result).text


def served(**changes: Any) -> Manifest:
    facts = {
        "number": 1,
        "version": "20260101T000000Z-bias-000000",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "model": ModelShape(
            users=2,
            items=1,
            factors=0,
            uncertainty=False,
            relevance_factors=None,
            relevance_rule=None,
            rating_min=1,
            rating_max=5,
        ),
        "trainer": TrainerRecord(
            name="bias", preset="bias", settings={}, seed=3, device="cpu", threads=1, fit_seconds=1
        ),
        "data": DataRecord(
            name="old.csv",
            split="random:0.1",
            fingerprint="f" * 64,
            train_ratings=1_234,
            test_ratings=1,
            duplicates=0,
            rating_mean=3.25,
            rating_deviation=1.5,
        ),
        "gate": PASSED,
        "metrics": {"rmse": 0.9876, "mae": None},
        "files": {},
    }
    return Manifest(**(facts | changes))


def test_the_version_before_stands_beside_this_one_with_what_changed(tmp_path: Path) -> None:
    before = served()
    drift = Drift(
        against=before.version, rating_mean=3.25, rating_deviation=1.5, known_users=0.75, known_items=0.5, coverage=0.25
    )
    result = small_result(served=before, drift=drift)
    document = page(tmp_path, result)
    figures = {row[0]: row[1:] for row in rows(document, "Figures of this version and of the previous one")}
    assert figures["RMSE"] == [f"{result.metrics['rmse']:.4f}", "0.9876"]
    assert figures["MAE"] == ["1.2500", "–"]
    data = {row[0]: row[1:] for row in rows(document, "Data of this version and of the previous one")}
    assert (data["Source"], data["Training ratings"]) == (["set", "old.csv"], ["6", "1,234"])
    assert data["Mean rating"] == [f"{23 / 6:.3f}", "3.250"]
    assert "knows the user of 75.0 % of the training ratings, the item of 50.0 %, and both of 25.0 %." in document.text
    assert "Both were measured on the same held-out ratings" in document.text
    other = replace(result, run=result.run | {"seed": 4})
    assert "Each was measured on its own held-out ratings" in page(tmp_path, other).text


def test_a_first_version_says_that_it_is_one(tmp_path: Path) -> None:
    assert "No other version was being served" in page(tmp_path, small_result()).text


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (PASSED, "Passed It beats the bias baseline."),
        (GateRecord(verdict="not measured", reasons=("no held-out ratings",)), "Not measured no held-out ratings"),
        (
            GateRecord(verdict="refused", reasons=("worse", "much worse"), forced=True),
            "Refused, but published anyway worse much worse",
        ),
    ],
)
def test_the_verdict_of_the_gate(tmp_path: Path, gate: GateRecord, said: str) -> None:
    document = page(tmp_path, small_result(), gate)
    (verdict,) = (part for part in document.all("div") if "verdict" in (part.attributes.get("class") or ""))
    assert " ".join(part.text for part in verdict.all("strong", "p", "li")) == said


def test_without_a_test_part_there_is_all_that_needs_none(tmp_path: Path) -> None:
    history = [replace(epoch, test_rmse=None) for epoch in HISTORY]
    document = page(tmp_path, small_result(test=[], baseline=None, history=history))
    assert headings(document) == [
        "Quality gate",
        "Data",
        "Accuracy",
        "Learning",
        "Comparison with the previous version",
        "Sample users",
        "Settings and environment",
    ]
    assert "No ratings were held out" in document.text
    assert [row[1] for row in rows(document, "RMSE after each pass")] == ["–", "–"]


def test_a_model_without_variances_has_no_calibration_and_no_intervals(tmp_path: Path) -> None:
    document = page(tmp_path, small_result())
    assert "Ratings inside their intervals" not in captions(document)
    assert len(rows(document, "Recommendations for u2")[0]) == 2


def test_a_single_user_who_has_rated_everything(tmp_path: Path) -> None:
    model = constant_model(3.0, 1, 2)
    document = page(tmp_path, make_result([(0, 0, 3.0), (0, 1, 3.0)], [], 1, 2, model))
    assert "A rater: u0" in [heading.text for heading in document.all("h3")]
    assert "This user has rated every item" in document.text


def test_users_without_ratings_of_their_own_are_no_samples(tmp_path: Path) -> None:
    """As those are of whom only attributes are known."""
    model = constant_model(3.0, 5, 2)
    document = page(tmp_path, make_result([(3, 0, 4.0)], [], 5, 2, model))
    assert [heading.text for heading in document.all("h3") if "rater" in heading.text] == ["A rater: u3"]


def test_a_model_fitted_again_to_all_ratings_is_told_from_the_measured_one(tmp_path: Path) -> None:
    result = small_result()
    whole = make_result([*TRAIN, *TEST[:3]], [], 4, 4, constant_model(3.4, 4, 4))
    run = {**result.run, **whole.train_test.totals(), "test_ratings": result.run["test_ratings"]}
    refitted = replace(result, train_test=whole.train_test, fitted=whole.fitted, seen=whole.seen, run=run)
    document = page(tmp_path, refitted)
    assert "The published model was then fitted to all ratings" in document.text
    assert dict(rows(document, "The ratings"))["Training ratings"].startswith("9: ")
    assert [row[:2] for row in rows(document, "By the user’s training ratings")] == [["0", "1"], ["2–4", "3"]]
    assert "then fitted to all" not in page(tmp_path, result).text


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg></table><a href=http://example.com>",
    "{{ 7 * 7 }}{% raw %}&amp;&#60;",
)


def test_text_from_data_is_text_whatever_it_says(tmp_path: Path) -> None:
    result = small_result(titles=HOSTILE, name=HOSTILE[0])
    train = result.train_test.train
    ratings = replace(result.train_test, train=replace(train, user_ids=pa.array(HOSTILE[:3])))
    settings = replace(result.preset, name=HOSTILE[1])
    gate = GateRecord(verdict="refused", reasons=HOSTILE, forced=True)
    before = served(data=served().data.model_copy(update={"name": HOSTILE[1], "split": HOSTILE[2]}))
    drift = Drift(against="x", rating_mean=3, rating_deviation=1, known_users=1, known_items=1, coverage=1)
    changed = replace(result, train_test=ratings, preset=settings, served=before, drift=drift)
    document = page(tmp_path, changed, gate)
    assert {element.tag for element in document.all()} == {element.tag for element in page(tmp_path, result).all()} | {
        "ul",
        "li",
        "code",
    }
    assert not list(document.all("script", "img"))
    said = document.text
    assert all(" ".join(text.split()) in said for text in HOSTILE)
    assert f"Recommendations for {HOSTILE[1]}" in captions(document)


def test_control_characters_and_endless_text_do_not_reach_the_page(tmp_path: Path) -> None:
    titles = ["bell\x07\x00\x1b[31m", "x" * 1_000_000, "a\u202eb", "tab\tand\nline"]
    page(tmp_path, small_result(titles=titles, name="not UTF-8: \udcff"))
    text = (tmp_path / "index.html").read_text("utf-8")
    assert not [character for character in text if category(character) == "Cc" and character not in "\t\n"]
    assert "bell\ufffd\ufffd\ufffd[31m" in text
    assert "not UTF-8: \ufffd" in text
    assert len(text) < 100_000


def large_page(tmp_path: Path) -> Element:
    """One with every part."""
    train, test = crowd(40, 30, np.random.default_rng(0))
    variances = {"noise_variance": torch.tensor(1.0), "user_variance": torch.ones(41), "item_variance": torch.ones(31)}
    model = constant_model(3.0, 40, 30, **variances)
    before = served()
    drift = Drift(against=before.version, rating_mean=3, rating_deviation=1, known_users=1, known_items=1, coverage=1)
    baseline = constant_model(3.0, 40, 30)
    return page(tmp_path, make_result(train, test, 40, 30, model, baseline, served=before, drift=drift))


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    document = large_page(tmp_path)
    assert not list(document.all("script", "iframe", "object", "embed", "base", "form", "img"))
    for element in document.all():
        assert not {"src", "srcset", "action", "style", "xlink:href"} & set(element.attributes)
        assert not [name for name in element.attributes if name.startswith("on")]
        assert (element.attributes.get("href") or "#").startswith(("#", "data:,"))
    (style,) = document.all("style")
    assert not [word for word in ("url(", "@import", "http", "expression") if word in style.text]


def test_the_page_is_sound_for_those_who_do_not_see_it(tmp_path: Path) -> None:
    document = large_page(tmp_path)
    ids = [element.attributes["id"] for element in document.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    named = {"aria-labelledby", "href"}
    wanted = [value for element in document.all() for name in named if (value := element.attributes.get(name))]
    assert {part.removeprefix("#") for value in wanted for part in value.split() if value != "data:,"} <= set(ids)
    assert next(document.all("html")).attributes["lang"] == "en"
    levels = [int(heading.tag[1]) for heading in document.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    charts = [chart for chart in document.all("svg") if chart.attributes.get("role") == "img"]
    assert len(charts) == 9
    for chart in charts:
        assert next(chart.all("title")).text
        assert next(chart.all("desc")).text
    for table in document.all("table"):
        assert next(table.all("caption")).text
        assert all("scope" in cell.attributes for cell in table.all("th"))


def test_no_chart_has_marks_outside_of_its_picture(tmp_path: Path) -> None:
    for chart in large_page(tmp_path).all("svg"):
        _, _, width, height = map(float, (chart.attributes["viewbox"] or "").split())
        for bar in chart.all("rect"):
            x, y, across, down = (float(bar.attributes[name] or "") for name in ("x", "y", "width", "height"))
            assert -1 <= x <= x + across <= width + 1
            assert 0 <= y <= y + down <= height
        for dot in chart.all("circle"):
            assert 0 <= float(dot.attributes["cx"] or "") <= width
            assert 0 <= float(dot.attributes["cy"] or "") <= height


def test_the_same_fit_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        large_page(tmp_path / name)
    assert {f.name: f.read_bytes() for f in (tmp_path / "one").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "two").iterdir()
    }
