import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest

from training.data.fetch import Download
from training.data.interactions import Interactions
from training.data.movielens import (
    GENRES,
    SETS,
    Archive,
    Content,
    NamedSet,
    csv_archive,
    ml_1m,
    ml_10m,
    ml_100k,
    read,
    recbole_ml_100k,
)
from training.data.validation import checked
from training.errors import DataError, SourceUnavailableError

NOWHERE = Download("http://127.0.0.1:1/ml.zip", "0" * 64)
CHILDREN = "Children's"


def zipped(path: Path, members: Mapping[str, bytes]) -> Download:
    """The description of an archive that is in the cache already: reading it needs no server."""
    with ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return Download(f"http://127.0.0.1:1/{path.name}", hashlib.sha256(path.read_bytes()).hexdigest())


def flags(*genres: str) -> str:
    return "|".join(str(int(genre in genres)) for genre in GENRES)


ITEMS = [
    {"id": "1", "title": "Toy Story", "year": 1995, "genres": ["Animation", "Children's", "Comedy"]},
    {"id": "2", "title": "Cérémonie, La", "year": 1995, "genres": ["Drama"]},
    {"id": "3", "title": None, "year": None, "genres": []},
    {"id": "4", "title": "Land Before Time III", "year": 1995, "genres": ["Animation"]},
    {"id": "5", "title": "Good Morning", "year": 1971, "genres": []},
    {"id": "6", "title": "Seven (Se7en)", "year": 1995, "genres": ["Crime", "Thriller"]},
]
USERS = [
    {"id": "1", "age": "24", "gender": "M", "occupation": "technician", "zip_code": "05711"},
    {"id": "2", "age": "53", "gender": "F", "occupation": "other", "zip_code": "T8H1N"},
]


def grouplens_100k(folder: Path) -> Archive:
    items = [
        f"1|Toy Story (1995)|01-Jan-1995||http://x|{flags('Animation', CHILDREN, 'Comedy')}",
        f"2|Cérémonie, La (1995)|20-Dec-1996||http://x|{flags('Drama')}",
        f"3|unknown||||{flags('unknown')}",
        f"4|Land Before Time III (1995) (V)|01-Jan-1995||http://x|{flags('Animation')}",
        f"5|Good  Morning (1971) |4-Feb-1971||http://x|{flags('unknown')}",
        f"6|Seven (Se7en)|01-Jan-1995||http://x|{flags('Crime', 'Thriller')}",
    ]
    users = ["|".join(user.values()) for user in USERS]
    return ml_100k(
        zipped(
            folder / "ml-100k.zip",
            {
                "ml-100k/u.data": b"1\t1\t3\t881250949\n2\t3\t4\t891717742\n1\t2\t5\t878887116\n",
                "ml-100k/u.item": ("\n".join(items) + "\n").encode("latin-1"),
                "ml-100k/u.user": ("\n".join(users) + "\n").encode(),
            },
        )
    )


def recbole_100k(folder: Path) -> Archive:
    items = [
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "1\tToy Story\t1995\tAnimation Children's Comedy",
        "2\tCérémonie, La\t1995\tDrama",
        "3\tunkonwn\tunkonwn\tunknown",
        "4\tLand Before Time III (1995)\tV\tAnimation",
        "5\tGood Morning\t1971\tunknown",
        "6\tSeven (Se7en)\t1995\tCrime Thriller",
    ]
    users = ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"]
    users += ["\t".join(user.values()) for user in USERS]
    stem = "recbole/dataset_example/ml-100k/ml-100k"
    return recbole_ml_100k(
        zipped(
            folder / "recbole.whl",
            {
                f"{stem}.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
                b"1\t1\t3\t881250949\n2\t3\t4\t891717742\n1\t2\t5\t878887116\n",
                f"{stem}.item": "\n".join(items).encode(),
                f"{stem}.user": "\n".join(users).encode(),
            },
        )
    )


def described(content: Content) -> list[dict[str, object]]:
    """The items without labels, of which MovieLens has none."""
    return content.items.drop_columns("labels").to_pylist()


def ratings_of(content: Content) -> Interactions:
    return checked([[content.ratings]]).ratings


@pytest.mark.parametrize("layout", [grouplens_100k, recbole_100k])
def test_both_sources_of_ml_100k_have_the_same_content(layout: Callable[[Path], Archive], tmp_path: Path) -> None:
    content = read(NamedSet("ml-100k", (layout(tmp_path),)), tmp_path)
    ratings = ratings_of(content)
    assert ratings.user_ids.to_pylist() == ["1", "2"]
    assert ratings.item_ids.to_pylist() == ["1", "3", "2"]
    assert ratings.ratings_N.tolist() == [3, 4, 5]
    assert ratings.timestamps_N is not None
    assert ratings.timestamps_N.tolist() == [881250949, 891717742, 878887116]
    assert described(content) == ITEMS
    assert content.users is not None
    assert content.users.to_pylist() == USERS


def test_ml_1m_has_latin_letters_and_users(tmp_path: Path) -> None:
    movies = "7::Misérables, Les (1995)::Drama|Musical\n8::2001: A Space Odyssey (1968)::Sci-Fi\n"
    source = zipped(
        tmp_path / "ml-1m.zip",
        {
            "ml-1m/ratings.dat": b"1::7::5::978300760\n2::7::3::978302109\n2::8::4::978301968\n",
            "ml-1m/movies.dat": movies.encode("latin-1"),
            "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n",
        },
    )
    content = read(NamedSet("ml-1m", (ml_1m(source),)), tmp_path)
    times_N = ratings_of(content).timestamps_N
    assert times_N is not None
    assert times_N.tolist() == [978300760, 978302109, 978301968]
    assert described(content) == [
        {"id": "7", "title": "Misérables, Les", "year": 1995, "genres": ["Drama", "Musical"]},
        {"id": "8", "title": "2001: A Space Odyssey", "year": 1968, "genres": ["Sci-Fi"]},
    ]
    assert content.users is not None
    assert content.users.to_pylist()[0] == {
        "id": "1", "age": "1", "gender": "F", "occupation": "10", "zip_code": "48067",
    }  # fmt: skip


def test_ml_10m_has_half_stars_and_no_users(tmp_path: Path) -> None:
    source = zipped(
        tmp_path / "ml-10m.zip",
        {
            "ml-10M100K/ratings.dat": b"1::7::3.5::978300760\n2::8::5::978302109\n",
            "ml-10M100K/movies.dat": "7::Misérables (1995)::Drama\n8::Daisy (1958)::(no genres listed)\n".encode(),
        },
    )
    content = read(NamedSet("ml-10m", (ml_10m(source),)), tmp_path)
    assert ratings_of(content).ratings_N.tolist() == [3.5, 5]
    assert content.items["genres"].to_pylist() == [["Drama"], []]
    assert content.users is None


def test_later_sets_are_csv_with_quoted_titles(tmp_path: Path) -> None:
    movies = (
        "movieId,title,genres\r\n"
        '7,"American President, The (1995)",Comedy|Drama\r\n'
        '8,"Say ""Cheese""",(no genres listed)\r\n'
        "9,Death Note: Desu nôto (2006–2007),Animation\r\n"
        "10,Babylon 5 (1994-),Sci-Fi\r\n"
    )
    source = zipped(
        tmp_path / "ml-small.zip",
        {
            "ml-small/ratings.csv": b"userId,movieId,rating,timestamp\r\n1,7,0.5,978300760\r\n2,8,5.0,978302109\r\n",
            "ml-small/movies.csv": movies.encode(),
        },
    )
    content = read(NamedSet("ml-small", (csv_archive(source),)), tmp_path)
    assert ratings_of(content).item_ids.to_pylist() == ["7", "8"]
    assert described(content) == [
        {"id": "7", "title": "American President, The", "year": 1995, "genres": ["Comedy", "Drama"]},
        {"id": "8", "title": 'Say "Cheese"', "year": None, "genres": []},
        {"id": "9", "title": "Death Note: Desu nôto", "year": 2006, "genres": ["Animation"]},
        {"id": "10", "title": "Babylon 5", "year": 1994, "genres": ["Sci-Fi"]},
    ]


def test_the_next_source_serves_where_the_first_cannot_be_reached(tmp_path: Path) -> None:
    both = NamedSet("ml-100k", (ml_100k(NOWHERE), recbole_100k(tmp_path)))
    assert len(ratings_of(read(both, tmp_path))) == 3


def test_the_first_source_is_preferred(tmp_path: Path) -> None:
    both = NamedSet("ml-100k", (grouplens_100k(tmp_path), recbole_ml_100k(NOWHERE)))
    assert len(ratings_of(read(both, tmp_path))) == 3


def test_a_set_that_no_source_has_names_all_of_them_and_why(tmp_path: Path) -> None:
    elsewhere = replace(NOWHERE, url="http://127.0.0.1:1/other.zip")
    unreachable = NamedSet("ml-100k", (ml_100k(NOWHERE), recbole_ml_100k(elsewhere)), "A hint. ")
    with pytest.raises(SourceUnavailableError) as caught:
        read(unreachable, tmp_path)
    assert re.fullmatch(
        r"ml-100k cannot be fetched\. Tried http://127\.0\.0\.1:1/ml\.zip: .*refused; "
        r"then http://127\.0\.0\.1:1/other\.zip: .*refused\. "
        rf"A hint\. You can put a copy of ml\.zip into {tmp_path} yourself\.",
        str(caught.value),
    )


@pytest.mark.parametrize("members", [{}, {"ml-100k/u.data": b"1\t1\t3\t9\n2\t2\t3\t9\n"}])
def test_an_archive_without_the_expected_members_says_so(tmp_path: Path, members: dict[str, bytes]) -> None:
    source = zipped(tmp_path / "ml-100k.zip", members)
    with pytest.raises(DataError, match=r"ml-100k\.zip: .*no item named"):
        read(NamedSet("ml-100k", (ml_100k(source),)), tmp_path)


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ml-100k.zip"
    path.write_bytes(b"text")
    source = Download(NOWHERE.url.replace("ml.zip", path.name), hashlib.sha256(b"text").hexdigest())
    with pytest.raises(DataError, match="not a zip file"):
        read(NamedSet("ml-100k", (ml_100k(source),)), tmp_path)


def test_a_bad_line_inside_an_archive_is_named(tmp_path: Path) -> None:
    source = zipped(tmp_path / "ml-100k.zip", {"ml-100k/u.data": b"1\t1\t3\t9\n2\t2\tx\t9\n"})
    with pytest.raises(DataError, match=r"ml-100k\.zip/ml-100k/u\.data: line 2: rating 'x'"):
        read(NamedSet("ml-100k", (ml_100k(source),)), tmp_path)


@pytest.mark.parametrize("named", SETS.values(), ids=SETS)
def test_every_set_has_a_recorded_sha256(named: NamedSet) -> None:
    for archive in named.archives:
        assert re.fullmatch("[0-9a-f]{64}", archive.source.sha256)
    first = named.archives[0].source
    assert first.file_name == f"{named.name}.zip"


@pytest.fixture(scope="module")
def real(cache: Path) -> Content:
    """MovieLens-100K as the package index has it."""
    return read(replace(SETS["ml-100k"], archives=SETS["ml-100k"].archives[1:]), cache)


def test_the_real_ml_100k_has_its_published_size(real: Content) -> None:
    content = checked([[real.ratings]])
    ratings = content.ratings
    assert (len(ratings), ratings.users, ratings.items, content.duplicates) == (100_000, 943, 1682, 0)
    assert ratings.scale == (1, 5)
    assert ratings.user_ids[:3].to_pylist() == ["196", "186", "22"]
    assert float(ratings.ratings_N.mean()) == pytest.approx(3.52986)


def test_the_real_ml_100k_has_titles_years_and_genres(real: Content) -> None:
    assert real.items["id"].to_pylist() == [str(number) for number in range(1, 1683)]
    assert described(real)[:1] == ITEMS[:1]
    unknown = [item["id"] for item in real.items.to_pylist() if item["title"] is None or item["year"] is None]
    assert unknown == ["267"]
    assert {genre for genres in real.items["genres"].to_pylist() for genre in genres} == set(GENRES[1:])
    assert real.users is not None
    assert real.users.num_rows == 943
