from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.reading import rows_of
from training.data.dataset import Dataset, load, shown_name
from training.errors import ConfigError, DataError
from training.options import SourceOptions


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


@pytest.mark.parametrize("source", ["ml-20m", "ratings"])
def test_what_is_no_source_is_refused_with_a_list_of_what_is(source: str) -> None:
    with pytest.raises(ConfigError, match=rf"{source}: not a data set \(ml-100k, .*not a file or folder"):
        read(source)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("sqlite:///ratings.db", {}, "a database needs --table NAME, .* or --query SELECT"),
        ("sqlite:///ratings.db", {"table": "ratings", "query": "SELECT 1"}, "give --table or --query, not both"),
        ("ratings.csv", {"table": "ratings"}, "--table and --query need a database URL"),
        ("https://host/ratings.csv", {"query": "SELECT 1"}, "--table and --query need a database URL"),
        ("ml-100k", {"columns": {"user": "u"}}, "the columns of ml-100k are known"),
        ("synthetic:10x10x10", {"columns": {"user": "u"}}, "the columns of synthetic:10x10x10 are known"),
    ],
)
def test_arguments_that_do_not_go_with_the_source_are_refused(
    source: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(source, **options)


def test_a_path_that_does_not_exist_and_a_folder_without_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files"):
        read(str(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        read(str(tmp_path / "ratings.csv"))


def test_several_sources_are_one_data_set(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.tsv"
    first.write_text("user,item,rating\n1,2,3\n2,3,4\n")
    second.write_text("user\titem\trating\n2\t3\t1\n7\t2\t5\n")
    dataset = load([str(first), str(second)], rng=np.random.default_rng(0), cache=tmp_path)
    assert dataset.name == "first.csv and 1 more"
    assert rows_of(dataset.ratings) == [("1", "2", 3, None), ("2", "3", 1, None), ("7", "2", 5, None)]
    assert (dataset.rows, dataset.duplicates, dataset.scale) == (4, 1, (1, 5))


def test_the_name_of_a_url_shows_nothing_before_its_last_part() -> None:
    url = "https://ann:s3cret@host/folder/ratings.csv?token=s3cret"
    assert shown_name([url], SourceOptions()) == "ratings.csv"


def test_ratings_that_mean_not_rated_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n1,2,99\n1,3,4\n2,3,-1\n2,2,2.5\n1,2,5\n")
    dataset = read(str(tmp_path / "r.csv"), drop_ratings=(-1, 99))
    assert (dataset.rows, dataset.dropped, dataset.duplicates, dataset.scale) == (5, 2, 0, (2.5, 5))
    assert dataset.ratings.ratings_N.tolist() == [4, 2.5, 5]
    with pytest.raises(DataError, match="no ratings are left: all 5 are among those to leave out"):
        read(str(tmp_path / "r.csv"), drop_ratings=(-1, 99, 4, 2.5, 5))


def test_a_scale_is_the_one_that_is_given_if_all_ratings_are_on_it(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n1,2,2\n2,3,4\n")
    path = str(tmp_path / "r.csv")
    assert read(path).scale == (2, 4)
    assert read(path, scale=(1, 5)).scale == (1, 5)
    with pytest.raises(DataError, match="its ratings are from 2 to 4, outside --scale 1,3; --drop-rating"):
        read(path, scale=(1, 3))


@pytest.mark.parametrize("option", [{}, {"header": False}, {"columns": {"user": "0", "item": "1", "rating": "2"}}])
def test_a_first_line_of_counted_columns_is_a_rating_or_a_header_only_by_word(
    option: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "frame.csv").write_text("0,1,2\nu1,7,5\nu2,7,3\nu2,8,4\n")
    options = SourceOptions(**option)

    def rows() -> int:
        return load([str(tmp_path / "frame.csv")], options, rng=np.random.default_rng(0), cache=tmp_path).rows

    if not option:
        with pytest.raises(DataError, match=r"frame\.csv: its first line"):
            rows()
    else:
        assert rows() == (4 if "header" in option else 3)
