from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data.dataset import Dataset, load
from training.data.options import SourceOptions
from training.errors import ConfigError, DataError


def read(source: str, seed: int = 0, **options: Any) -> Dataset:
    return load([source], SourceOptions(**options), rng=np.random.default_rng(seed), cache=Path("not needed"))


def test_a_synthetic_set_has_the_size_asked_for_and_depends_on_the_seed_alone() -> None:
    dataset = read("synthetic:60x40x1000")
    assert (dataset.name, len(dataset.ratings), dataset.duplicates) == ("synthetic:60x40x1000", 1000, 0)
    assert dataset.ratings.users <= 60
    assert dataset.ratings.items <= 40
    assert dataset.ratings.timestamps_N is None
    assert read("synthetic:60x40x1000").fingerprint == dataset.fingerprint
    assert read("synthetic:60x40x1000", seed=1).fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    "size", ["", "10", "10x10", "10x10x10x10", "-1x10x10", "ax10x10", "1x10x5", "10x1x5", "10x10x0", "10x10x51"]
)
def test_a_synthetic_set_of_no_possible_size_is_refused(size: str) -> None:
    with pytest.raises(ConfigError, match="synthetic:"):
        read(f"synthetic:{size}")


def test_the_fingerprint_tells_every_content_apart(tmp_path: Path) -> None:
    contents = [
        "user,item,rating,timestamp\n1,2,3,4\n2,3,4,5\n",
        "user,item,rating,timestamp\n1,2,3,4\n2,3,4,6\n",
        "user,item,rating,timestamp\n1,2,3,4\n2,3,5,5\n",
        "user,item,rating,timestamp\n1,2,3,4\n2,4,4,5\n",
        "user,item,rating,timestamp\n1,2,3,4\n3,3,4,5\n",
        "user,item,rating,timestamp\n2,3,4,5\n1,2,3,4\n",
        "user,item,rating\n1,2,3\n2,3,4\n",
        "user,item,rating\n12,2,3\n,3,4\n".replace("\n,", "\n3,"),
    ]
    fingerprints = set()
    for content in contents:
        (tmp_path / "ratings.csv").write_text(content)
        fingerprints.add(read(str(tmp_path / "ratings.csv")).fingerprint)
    assert len(fingerprints) == len(contents)


def test_a_file_gives_its_name(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,item,rating\n1,2,3\n2,3,4\n")
    assert read(str(tmp_path / "ratings.csv")).name == "ratings.csv"


@pytest.mark.parametrize("source", ["ml-20m", "ratings.xlsx", "ratings"])
def test_what_is_no_source_is_refused_with_a_list_of_what_is(source: str) -> None:
    with pytest.raises(ConfigError, match=r"not a data set \(ml-100k, .*\.csv, .*\.parquet\)"):
        read(source)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("sqlite:///ratings.db", {}, "a database needs --table"),
        ("ratings.csv", {"table": "ratings"}, "ratings.csv is not"),
        ("ml-100k", {"columns": {"user": "u"}}, "the columns of ml-100k are known"),
        ("synthetic:10x10x10", {"columns": {"user": "u"}}, "the columns of synthetic:10x10x10 are known"),
    ],
)
def test_arguments_that_do_not_go_with_the_source_are_refused(
    source: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(source, **options)


def test_a_path_that_does_not_exist_or_is_a_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory"):
        read(str(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        read(str(tmp_path / "ratings.csv"))
