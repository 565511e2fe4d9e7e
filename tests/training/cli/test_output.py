"""Tables to the character: what a person reads of a fit, of data sets and of presets."""

from __future__ import annotations

import pytest

from training.cli import output
from training.cli.output import figures, rows

FIGURES = {
    "dataset": "ml-100k", "split": "random:0.1", "preset": "bayes", "trainer": "bayes", "device": "cpu", "threads": 2,
    "seed": 1000, "users": 943, "items": 1682, "train_ratings": 90_000, "test_ratings": 10_000, "train_loss": 0.51834,
    "rmse": 0.88961, "mae": 0.69991, "rmse_clipped": 0.8894, "user_rmse": None, "bias_rmse": 0.9477,
    "coverage90": 0.9012, "nll": None, "ndcg10": 0.3364, "recall10": 0.3498, "ndcg10_rating": 0.0711,
    "fit_seconds": 12.34, "relevance_seconds": None, "seconds": 21.26,
    "examples_per_second": 3_018_917.4, "peak_memory_mb": 547.6,
    "version": "20260102T030405Z-bayes-1a2b3c", "checkpoint": "checkpoints/20260102T030405Z-bayes-1a2b3c",
}  # fmt: skip
TABLE = """\
Data         data set               ml-100k
             split                  random:0.1
             users                  943
             items                  1,682
             training ratings       90,000
             test ratings           10,000

Fit          preset                 bayes
             trainer                bayes
             device                 cpu
             CPU threads            2
             seed                   1000
             training loss          0.5183
             fit                    12.3 s
             whole job              21.3 s
             examples a second      3,018,917
             peak memory            547.6 MB

Errors       RMSE                   0.8896   6.1% below that of biases alone
             RMSE of biases alone   0.9477
             RMSE, clipped          0.8894
             MAE                    0.6999
             in 90 % intervals      90.1%

Ranking      NDCG@10                0.3364
             recall@10              0.3498
             NDCG@10 by rating      0.0711

Checkpoint   version                20260102T030405Z-bayes-1a2b3c
             directory              checkpoints/20260102T030405Z-bayes-1a2b3c
"""


def test_figures_are_grouped_and_stand_beside_those_of_the_biases(capsys: pytest.CaptureFixture[str]) -> None:
    output.answer(FIGURES, figures(FIGURES), as_json=False)
    assert capsys.readouterr().out == TABLE


def test_a_model_that_is_worse_than_the_biases_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.answer({}, figures({"rmse": 1.1, "bias_rmse": 1.0}), as_json=False)
    assert capsys.readouterr().out == (
        "Errors   RMSE                   1.1000   10.0% above that of biases alone\n"
        "         RMSE of biases alone   1.0000\n"
    )


def test_long_cells_stay_on_one_line_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.answer({}, rows({"name": {}}, [("x" * 500,)]), as_json=False)
    assert capsys.readouterr().out.splitlines()[2] == "x" * 500


def test_errors_stay_on_one_line_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_error("first\nsecond [bold]\t" + "x" * 200)
    assert capsys.readouterr().err == f"error: first second [bold] {'x' * 200}\n"
