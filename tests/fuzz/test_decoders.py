"""Every decoder is fed with damaged and hostile input in a process of its own: it reads or refuses, nothing else."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zipfile import ZipFile

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.checkpoint.files import MANIFEST
from models.registry.directory import publish
from tests.fuzz.decoding import RATINGS as RATINGS_FILES
from tests.fuzz.mutations import mutations
from tests.fuzz.structures import bomb, documents, headers, tables, values
from tests.support.checkpoints import small_draft, small_head
from tests.support.forks import Nursery

COLUMNS = {"users": ["1", "ü", "x" * 40], "items": ["2", "3", "4"]}
RATINGS = pa.table(
    {"user": ["a", "b", "a"], "item": ["x", "y", "y"], "rating": [1.0, 2.5, 4.0], "timestamp": [1, 2, 3]}
)


def arrow_stream(compression: str | None = None, *, dictionary: bool = False, user: str = "1") -> bytes:
    columns = {"user": pa.array([user, *COLUMNS["users"][1:]]), "item": pa.array(COLUMNS["items"])}
    if dictionary:
        columns = {name: column.dictionary_encode() for name, column in columns.items()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, pa.table(columns).schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as out:
        out.write_table(pa.table(columns))
    return sink.getvalue().to_pybytes()


def parquet_file(table: pa.Table = RATINGS, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


ATTRIBUTES = pa.table(
    {"id": ["a", "b", "c"], "age": [1.5, 2, None], "job": ["x", "y", "x"], "genres": [["p", "q"], [], None]}
)
TEXT = b"user,item,rating,timestamp\n" + b"".join(
    b'%d,"it ""em"" %d",%d.5,%d\n' % (n, n % 3, n % 5, n) for n in range(9)
)
TEXT_AS_JSON = b"".join(
    b'{"user": %d, "item": "it %d", "rating": %d.5, "timestamp": %d}\n' % (n, n % 3, n % 5, n) for n in range(9)
)


def zip_archive(content: bytes) -> bytes:
    target = io.BytesIO()
    with ZipFile(target, "w") as archive:
        archive.writestr("ratings.csv", content)
    return target.getvalue()


def ipc_file(new: Callable[..., pa.RecordBatchFileWriter]) -> bytes:
    sink = pa.BufferOutputStream()
    with new(sink, RATINGS.schema) as writer:
        writer.write_table(RATINGS)
    return sink.getvalue().to_pybytes()


CASES = {
    "json": [json.dumps(body).encode() for body in ({"user": "1", "item": 2}, COLUMNS)],
    "msgpack": [msgspec.msgpack.encode(body) for body in ({"user": "1", "item": 2}, COLUMNS)],
    "arrow": [
        arrow_stream(),
        arrow_stream(dictionary=True),
        arrow_stream("lz4"),
        arrow_stream("zstd", user="x" * (128 << 20)),
    ],
    "csv": [TEXT, "\ufeff".encode() + TEXT.replace(b"\n", b"\r\n")],
    "tsv": [TEXT.replace(b",", b"\t")],
    "data": [b"1\t2\t3\t4\n2\t3\t4\t5\n"],
    "dat": [b"1::2::3::4\n2::3::4.5::5\n"],
    "csv.gz": [gzip.compress(TEXT, mtime=0)],
    "csv.zst": [pa.compress(TEXT, "zstd", asbytes=True)],
    "csv.bz2": [bz2.compress(TEXT)],
    "csv.xz": [lzma.compress(TEXT)],
    "csv.zip": [zip_archive(TEXT)],
    "jsonl": [TEXT_AS_JSON],
    "arrow.file": [ipc_file(pa.ipc.new_file), ipc_file(pa.ipc.new_stream)],
    "parquet": [parquet_file(), parquet_file(compression="gzip", use_dictionary=False, data_page_version="2.0")],
    "attributes.csv": [b"id,age,job\na,1.5,x\nb,2,y\n1,,x\n"],
    "attributes.parquet": [
        parquet_file(ATTRIBUTES),
        parquet_file(ATTRIBUTES, compression="none", use_dictionary=False),
    ],
}
FILES = (*RATINGS_FILES, "attributes.csv", "attributes.parquet")


def decode(nursery: Nursery, decoder: str, folder: Path) -> list[str]:
    """What came of each file: `read` or `refused`; anything else is a failure that names the file."""
    done = nursery.run("tests.fuzz.decoding", decoder, folder)
    outcomes = done.stdout.splitlines()
    assert done.code == 0, f"{outcomes[-1:]}\n{done.stderr[-2_000:]}"
    assert [outcome for outcome in outcomes if outcome.split(" ", 1)[1] not in ("read", "refused")] == []
    return [outcome.split(" ", 1)[1] for outcome in outcomes]


def write(folder: Path, inputs: Iterable[bytes], suffix: str = "") -> None:
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(inputs):
        (folder / f"{number:05}{suffix}").write_bytes(data)


def damaged(valid: list[bytes], count: int) -> Iterator[bytes]:
    """The valid inputs, and so many variants of them."""
    for seed, content in enumerate(valid):
        yield content
        yield from mutations(content, count // len(valid), seed)


def damaged_checkpoint_file(name: str, content: bytes, count: int) -> Iterator[bytes]:
    yield from damaged([content], count)
    if name.endswith(".safetensors"):
        yield from headers(content, count, seed=1)
        yield from values(content, count // 2, seed=2)
    else:
        yield from tables(content, count // 2, seed=3)
        yield bomb(content)


def counts(few: int, many: int) -> pytest.MarkDecorator:
    """How many variants of each input: a few quickly, else many."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


@counts(150, 1_500)
@pytest.mark.parametrize("decoder", CASES)
def test_every_decoder_reads_or_refuses(nursery: Nursery, decoder: str, count: int, tmp_path: Path) -> None:
    bombs = [arrow_stream("zstd", user="x" * (128 << 20))] if decoder == "arrow" else []
    inputs = [CASES[decoder][0], *bombs, *damaged(CASES[decoder], count)]
    write(tmp_path / "cases", inputs, f".{decoder}" if decoder in FILES else "")
    outcomes = decode(nursery, decoder, tmp_path / "cases")
    assert len(outcomes) == len(inputs) > count
    assert {"read", "refused"} <= set(outcomes) or decoder == "json"


@counts(100, 1_000)
@pytest.mark.parametrize("decoder", ["manifest", "current"])
def test_what_names_the_files_of_a_checkpoint_is_read_or_refused(
    nursery: Nursery, decoder: str, count: int, tmp_path: Path
) -> None:
    version = tmp_path / publish(tmp_path, small_draft(relevance=small_head())).version
    content = (version / MANIFEST).read_bytes().replace(version.name.encode(), b"version")
    valid = {"manifest": content, "current": version.name.encode()}[decoder]
    hostile = documents(content, count, seed=1) if decoder == "manifest" else ()
    write(tmp_path / "cases", [*damaged([valid], count), *hostile])
    outcomes = decode(nursery, decoder, tmp_path / "cases")
    assert len(outcomes) > count
    assert "refused" in outcomes


@counts(20, 150)
def test_every_file_of_a_checkpoint_is_read_or_refused_though_its_hash_is_right(
    nursery: Nursery, count: int, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    version = directory / publish(directory, small_draft(relevance=small_head())).version
    names = [name for name in json.loads((version / MANIFEST).read_text())["files"] if "/" not in name]
    assert names
    for name in names:
        write(tmp_path / "cases", damaged_checkpoint_file(name, (version / name).read_bytes(), count), f"@{name}")
    outcomes = decode(nursery, "checkpoint", tmp_path / "cases")
    assert len(outcomes) > count * len(names)
    assert {"read", "refused"} == set(outcomes)
