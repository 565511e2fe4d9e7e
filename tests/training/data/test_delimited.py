import gzip
from pathlib import Path

import pytest

from training.data.delimited import COMMA, LAYOUTS, RATINGS_DAT, TAB, U_DATA, Layout, read
from training.errors import DataError

HEADER = b"user,item,rating,timestamp\n"
GOOD = b"1,2,3.5,10\n2,1,4,20\n"


def write(folder: Path, content: bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        (COMMA, HEADER + GOOD),
        (COMMA, b"\xef\xbb\xbf" + HEADER + GOOD),
        (COMMA, (HEADER + GOOD).replace(b"\n", b"\r\n")),
        (COMMA, HEADER + b"\n\n" + GOOD + b"\n\n"),
        (COMMA, (HEADER + GOOD).rstrip()),
        (COMMA, b'"user","item","rating","timestamp"\n"1","2","3.5","10"\n"2","1","4","20"\n'),
        (COMMA, b'user,item,note,rating,timestamp\n1,2,"two\nlines, ""quoted""",3.5,10\n2,1,\xff,4,20\n'),
        (COMMA, b"user,item,rating,timestamp\n 1, 2, 3.5, 10\n2 ,1 ,4 ,20 \n"),
        (TAB, (HEADER + GOOD).replace(b",", b"\t")),
        (U_DATA, GOOD.replace(b",", b"\t")),
        (U_DATA, GOOD.replace(b",", b"\t").replace(b"\n", b"\r\n")),
        (RATINGS_DAT, GOOD.replace(b",", b"::")),
        (RATINGS_DAT, b"\n" + GOOD.replace(b",", b"::") + b"\n"),
    ],
)
def test_the_same_ratings_however_they_are_written(tmp_path: Path, layout: Layout, content: bytes) -> None:
    ratings = read(write(tmp_path, content), layout).ratings
    assert ratings.user_ids.to_pylist() == ["1", "2"]
    assert ratings.item_ids.to_pylist() == ["2", "1"]
    assert ratings.ratings_N.tolist() == [3.5, 4]
    assert ratings.timestamps_N is not None
    assert ratings.timestamps_N.tolist() == [10, 20]


def test_quotes_mean_nothing_in_movielens_files(tmp_path: Path) -> None:
    path = write(tmp_path, b'"1\t2\t3\t10\n2\t1"\t4\t20\n', "u.data")
    ratings = read(path, U_DATA).ratings
    assert (ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()) == (['"1', "2"], ["2", '1"'])


def test_leading_zeros_and_words_like_na_are_kept_in_ids(tmp_path: Path) -> None:
    path = write(tmp_path, b"user,item,rating\n007,NA,3\n7,null,4\n")
    ratings = read(path, COMMA).ratings
    assert (ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()) == (["007", "7"], ["NA", "null"])


def test_ids_that_a_data_frame_turned_to_floats_are_whole_again(tmp_path: Path) -> None:
    path = write(tmp_path, b"user,item,rating\n1.0,1.0,3\n2.0,1.5,4\n")
    ratings = read(path, COMMA).ratings
    assert (ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()) == (["1", "2"], ["1.0", "1.5"])


def test_a_timestamp_column_without_a_single_value_is_as_none(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + b"1,2,3,\n2,1,4,\n")
    assert read(path, COMMA).ratings.timestamps_N is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\r\n", "the file is empty"),
        (HEADER, "no ratings"),
        (b"user;item;rating\n1;2;3\n", "no column user, item, rating; found user;item;rating"),
        (b"user,item,rating,rating\n1,2,3,4\n", "more than one column rating"),
        (HEADER + GOOD + b"3,1,good,30\n", "line 4: rating 'good' is not a number"),
        (HEADER + b"\n\n" + GOOD + b'3,1,"4,5",30\n', "line 6: rating '4,5' is not a number"),
        (HEADER + GOOD + b"3,1,,30\n", "line 4: rating is missing"),
        (HEADER + GOOD + b"3,1,nan,30\n", "line 4: rating is missing"),
        (HEADER + GOOD + b"3,1,-inf,30\n", "line 4: rating -inf is not a finite number"),
        (HEADER + GOOD + b"3,1,1e39,30\n", r"line 4: rating 1e\+39 is not a finite number"),
        (HEADER + b"\n" + GOOD + b",1,3,30\n", "line 5: user is missing"),
        (HEADER + GOOD + b"3,  ,3,30\n", "line 4: item is missing"),
        (HEADER + GOOD + b"3,1,3,\n", "line 4: timestamp is missing"),
        (HEADER + GOOD + b"3,1,3,soon\n", "line 4: timestamp 'soon' is neither seconds nor an ISO 8601 time"),
        (HEADER + GOOD + b"3,1\n", "line 4: 2 fields where the first line has 4"),
        (HEADER + GOOD + b"3,1,4,5,6\n", "line 4: 5 fields where the first line has 4"),
        (HEADER + b'1,"a\nb",3,4\n' + b"3,1\n", "line 4: 2 fields where the first line has 4"),
        (HEADER + GOOD + b'3,"1,3,30\n', "line 4: unexpected end of data"),
        (HEADER + GOOD + b"caf\xe9,1,3,30\n", "line 4: not UTF-8"),
        (b"us\xe9r,item,rating\n1,2,3\n", "line 1: not UTF-8"),
        ("user,item,rating\n1,2,3\n".encode("utf-16"), "line 1: not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named_by_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(path, COMMA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1::2::3::4\n1::3::x::5\n", "line 2: rating 'x' is not a number"),
        (b"1::2::3::4\n1::3::3\n", "line 2: 3 fields where the first line has 4"),
        (b"1::2::3::4\n1:x:3::3::5\n", "line 2: 3 fields where the first line has 4"),
        (b"1::2::3::4\n\n1::::3::5\n", "line 3: item is missing"),
        (b"1\t2\t3\t4\n1\t3\t3\t5\n", "no column item, rating; found user"),
    ],
)
def test_ratings_dat_is_diagnosed_as_csv_is(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, content, "ratings.dat"), RATINGS_DAT)


def test_a_bad_value_far_into_a_gzipped_file_is_named_by_its_line(tmp_path: Path) -> None:
    rows = b"".join(b"%d,%d,3,5\n" % (row % 97, row) for row in range(200_000))
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(HEADER + rows + b"1,1,3,never\n", 1))
    with pytest.raises(DataError, match="line 200002: timestamp 'never'"):
        read(path, COMMA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + GOOD, "not a gzip file"),
        (gzip.compress(HEADER + GOOD, mtime=0)[:-10], "truncated"),
        (gzip.compress(HEADER + GOOD, mtime=0)[:10] + b"\xff" * 20, "not a gzip file"),
    ],
    ids=["text", "truncated", "damaged"],
)
def test_what_is_not_gzip_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, content, "ratings.csv.gz"), COMMA)


@pytest.mark.parametrize("ending", LAYOUTS)
def test_a_directory_or_a_file_that_is_not_there_says_so(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path / f"folder{ending}", LAYOUTS[ending])
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / f"missing{ending}", LAYOUTS[ending])
