"""A compressed file is read completely or refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from tests.support.reading import read, rows_of
from training.data import compression
from training.errors import DataError

ROWS = [(str(n % 97), str(n), float(1 + n % 5), None) for n in range(5_000)]
TEXT = b"user,item,rating\n" + b"".join(
    b"%s,%s,%d\n" % (user.encode(), item.encode(), rating) for user, item, rating, _ in ROWS
)


def zipped(content: bytes, **others: bytes) -> bytes:
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for name, each in {"ratings.csv": content, **others}.items():
            archive.writestr(name, each)
    return target.getvalue()


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def write(folder: Path, content: bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@every_kind
@pytest.mark.parametrize("name", ["ratings.csv.{}", "RATINGS.CSV.{}", "ratings.{}", "ratings"])
def test_a_compressed_file_is_known_by_what_is_in_it(tmp_path: Path, kind: str, name: str) -> None:
    named = name.format(kind.upper() if name.isupper() else kind)
    assert rows_of(read(write(tmp_path, KINDS[kind](TEXT), named)).ratings) == ROWS


@every_kind
def test_what_is_not_compressed_though_it_is_called_so_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=f"not a {compression.SUFFIXES[f'.{kind}']} file"):
        read(write(tmp_path, TEXT, f"ratings.csv.{kind}"))


@every_kind
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99, 1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    content = KINDS[kind](TEXT)
    path = write(tmp_path, content[: min(int(len(content) * share), len(content) - 1)], f"ratings.csv.{kind}")
    with pytest.raises(DataError, match=rf"{path}: the compressed file is (truncated|damaged)"):
        read(path)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zst"])  # which Arrow writes without a checksum
def test_a_damaged_file_is_refused_or_read_completely(tmp_path: Path, kind: str) -> None:
    """A byte that says nothing about the content, such as the time in a header, may be any."""
    content, rng = KINDS[kind](TEXT), np.random.default_rng(0)
    refused = 0
    for at in rng.integers(len(content), size=40).tolist():
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        path = write(tmp_path, bytes(damaged), "ratings.csv")
        try:
            assert rows_of(read(path).ratings) == ROWS
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 - it may also be read
            refused += 1
    assert refused > 20


# The rows (n % 7, in, 1 + n % 5) of n < 60, as `zstd --check` writes them: with a checksum, which Arrow leaves out.
WITH_CHECKSUM = b64decode(
    "KLUv/QRoHQYANhIoFKAn6eYtYv/r/2XZRsjeUnb8r+swJQAhAB8A08s9hpObDG23jV13Td2703lzON009LjHDAqHCBgmCBC3QXBI"
    "BPSgDaiLXjgh2uyie0xdusl00m3Die4aetDdsQE3py5uCo+yAXXRCyelrXa1bjvLqfSoDaiLXjghbbSLddlJTgxjA+qiF06MNrPL"
    "6lqncTJ6mA2oi144KdrKrqpbncWpKC2oEVj1/X8D4DUbELgPPEF4qUgiEHTdJBhb6I3z1ZbU50TqQQ=="
)


def test_a_flipped_bit_in_a_zst_file_with_a_checksum_is_noticed(tmp_path: Path) -> None:
    expected = [(str(n % 7), f"i{n}", float(1 + n % 5), None) for n in range(60)]
    refused = 0
    for bit in range(8 * len(WITH_CHECKSUM)):
        damaged = bytearray(WITH_CHECKSUM)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert rows_of(read(write(tmp_path, bytes(damaged), "ratings.csv")).ratings) == expected
        except DataError:
            refused += 1
    assert rows_of(read(write(tmp_path, WITH_CHECKSUM, "ratings.csv")).ratings) == expected
    assert refused > 7 * len(WITH_CHECKSUM)


@pytest.mark.parametrize("kind", ["gz", "zst", "bz2", "xz"])
def test_compressed_parts_one_after_the_other_are_one_file(tmp_path: Path, kind: str) -> None:
    parts = [KINDS[kind](part) for part in (TEXT[:1_000], TEXT[1_000:2_000], b"", TEXT[2_000:])]
    assert rows_of(read(write(tmp_path, b"".join(parts), f"ratings.csv.{kind}")).ratings) == ROWS


@pytest.mark.parametrize("kind", ["gz", "zst", "bz2", "xz"])
def test_the_second_part_is_read_to_its_end_too(tmp_path: Path, kind: str) -> None:
    content = KINDS[kind](TEXT[:1_000]) + KINDS[kind](TEXT[1_000:])[:-5]
    with pytest.raises(DataError, match=r"the compressed file is (truncated|damaged)"):
        read(write(tmp_path, content, f"ratings.csv.{kind}"))


@pytest.mark.parametrize("kind", ["gz", "zst", "bz2", "xz"])
@pytest.mark.parametrize("rubbish", [b"rubbish", b"7,8,3\n", b"\xff" * 100_000])
def test_rubbish_behind_the_end_is_refused(tmp_path: Path, kind: str, rubbish: bytes) -> None:
    with pytest.raises(DataError, match=r"the compressed file is (truncated|damaged)"):
        read(write(tmp_path, KINDS[kind](TEXT) + rubbish, f"ratings.csv.{kind}"))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_zeros_behind_the_end_are_padding(tmp_path: Path, kind: str) -> None:
    assert rows_of(read(write(tmp_path, KINDS[kind](TEXT) + bytes(512), f"ratings.csv.{kind}")).ratings) == ROWS


def test_an_archive_of_several_files_is_refused_and_names_them(tmp_path: Path) -> None:
    path = write(tmp_path, zipped(TEXT, **{"readme.txt": b"x"}), "ratings.zip")
    with pytest.raises(DataError, match=r"the archive holds 2 files \(ratings.csv, readme.txt\), not one"):
        read(path)
    with ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(DataError, match="the archive holds 0 files"):
        read(tmp_path / "none.zip")


def test_what_macs_put_into_an_archive_does_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, zipped(TEXT, **{"__MACOSX/._ratings.csv": b"x"}), "ratings.zip")
    assert rows_of(read(path).ratings) == ROWS


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(TEXT))
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[at] |= 1
    with pytest.raises(DataError, match=r"the compressed file is damaged .*password"):
        read(write(tmp_path, bytes(content), "ratings.zip"))


@every_kind
def test_parquet_and_json_lines_may_be_compressed_too(tmp_path: Path, kind: str) -> None:
    target = io.BytesIO()
    pq.write_table(pa.table({"user": ["a", "b"], "item": ["x", "y"], "rating": [1.0, 2.0]}), target)
    lines = b'{"user": "a", "item": "x", "rating": 1}\n{"user": "b", "item": "y", "rating": 2}\n'
    for number, content in enumerate((target.getvalue(), lines)):
        path = write(tmp_path, KINDS[kind](content), f"{number}.{kind}")
        assert rows_of(read(path).ratings) == [("a", "x", 1, None), ("b", "y", 2, None)]


BOMBS = {"zeros": b"\0", "newlines": b"\n", "one line": b"1", "rows": b"1,2,3\n"}


@pytest.mark.parametrize(
    "filling", [pytest.param(each, marks=[] if each == "one line" else pytest.mark.slow) for each in BOMBS]
)
@pytest.mark.parametrize("kind", ["gz", "zst", "bz2", "xz"])
def test_a_bomb_is_refused_fast(tmp_path: Path, filling: str, kind: str) -> None:
    piece = BOMBS[filling] * ((1 << 20) // len(BOMBS[filling]))
    bomb = KINDS[kind](b"user,item,rating\n1,2,3\n") + KINDS[kind](piece * 16) * 6
    path = write(tmp_path, bomb, f"ratings.csv.{kind}")
    began = time.monotonic()
    with pytest.raises(DataError):
        read(path)
    assert time.monotonic() - began < 30
