"""A checkpoint is read back exactly as it was published, or refused by the name of what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import files, verification_cache
from models.checkpoint.files import (
    ITEM_SCHEMA,
    ITEMS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    RELEVANCE,
    REQUIRED_FILES,
    SEEN,
    USER_SCHEMA,
    USERS,
    VOCABULARY,
    WEIGHTS,
    hash_file,
)
from models.checkpoint.reader import Checkpoint
from models.errors import CheckpointCorruptError, CheckpointError, CheckpointFormatError, CheckpointNotFoundError
from models.registry.directory import CURRENT, current_version, load, publish, versions
from tests.support.checkpoints import (
    RULE,
    edit_manifest,
    replace_file,
    replace_table,
    replace_tensors,
    small_draft,
    small_head,
    small_model,
)

FILES = (*REQUIRED_FILES, RELEVANCE)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The directory of a published version with a relevance head."""
    draft = small_draft(write_report=lambda path: (path / "history.json").write_text("[]\n"), relevance=small_head())
    return tmp_path / publish(tmp_path, draft).version


def refused(version: Path, error: type[CheckpointError] = CheckpointCorruptError, *, naming: str) -> None:
    with pytest.raises(error, match=re.escape(naming)) as caught:
        load(version.parent, version.name)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_what_was_published_is_read_back_bit_for_bit(version: Path) -> None:
    draft, found = small_draft(), load(version.parent)
    tensors = found.model.tensors()
    assert tensors.keys() == draft.model.tensors().keys()
    assert all(torch.equal(tensors[name], table) for name, table in draft.model.tensors().items())
    assert found.users.ids.to_pylist() == draft.users["id"].to_pylist()
    assert found.catalogue.equals(draft.items)
    assert torch.equal(found.seen.offsets, draft.seen.offsets)
    assert torch.equal(found.seen.items_N, draft.seen.items_N)
    assert found.manifest.trainer == draft.trainer
    assert found.manifest.data == draft.data
    assert found.manifest.gate == draft.gate
    assert found.manifest.metrics == draft.metrics
    assert (found.manifest.model.rating_min, found.manifest.model.rating_max) == draft.scale


def test_variances_are_read_back_where_the_model_has_them(tmp_path: Path) -> None:
    known = {"noise_variance": torch.tensor(0.5), "user_variance": torch.arange(4.0), "item_variance": torch.ones(5)}
    publish(tmp_path, small_draft(model=small_model(**known)))
    tensors = load(tmp_path).model.tensors()
    assert all(torch.equal(tensors[name], table) for name, table in known.items())


def test_a_relevance_head_is_read_back_bit_for_bit(version: Path) -> None:
    checkpoint, head = load(version.parent), small_head()
    assert checkpoint.manifest.model.relevance_factors == head.factors == 3
    assert checkpoint.relevance is not None
    assert torch.equal(checkpoint.relevance.user_factors, head.user_factors)
    assert torch.equal(checkpoint.relevance.item_factors, head.item_factors)


def test_without_a_relevance_head_there_is_no_file_and_the_manifest_says_null(tmp_path: Path) -> None:
    version = tmp_path / publish(tmp_path, small_draft()).version
    assert load(tmp_path).relevance is None
    assert json.loads((version / MANIFEST).read_text())["model"]["relevance_factors"] is None
    assert not (version / RELEVANCE).exists()


def test_the_same_model_is_published_in_the_same_bytes(tmp_path: Path) -> None:
    first, second = (tmp_path / publish(tmp_path, small_draft(relevance=small_head())).version for _ in range(2))
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


def test_the_weights_are_in_the_format_that_the_document_specifies(version: Path) -> None:
    content = (version / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    begin, end = header["user_bias"]["data_offsets"]
    assert header["user_bias"] | {"data_offsets": None} == {"dtype": "F32", "shape": [4], "data_offsets": None}
    assert content[8 + length :][begin:end] == small_draft().model.user_bias.numpy().astype("<f4").tobytes()


def mapped_from(file: Path) -> list[range]:
    """The address ranges of this process that are mapped from a file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(str(file))]
    return [range(int(begin, 16), int(end, 16)) for begin, end in spans]


def test_tables_are_mapped_from_their_files_and_not_copied(version: Path) -> None:
    checkpoint = load(version.parent)
    weights, seen, relevance = (mapped_from(version / name) for name in (WEIGHTS, SEEN, RELEVANCE))
    assert all(any(table.data_ptr() in span for span in weights) for table in checkpoint.model.tensors().values())
    assert any(checkpoint.seen.items_N.data_ptr() in span for span in seen)
    assert checkpoint.relevance is not None
    assert all(any(t.data_ptr() in span for span in relevance) for t in checkpoint.relevance.tensors().values())


def test_versions_are_those_directories_that_hold_a_manifest(version: Path) -> None:
    (version.parent / "empty").mkdir()
    (version.parent / ".staging-1").mkdir()
    (version.parent / ".staging-1" / MANIFEST).write_text("{}")
    assert versions(version.parent) == [version.name]
    assert versions(version.parent / "nothing") == []


# Torn, truncated, altered and missing files


@pytest.mark.parametrize("name", [*FILES, "report/history.json"])
def test_a_missing_file_is_named(version: Path, name: str) -> None:
    (version / name).unlink()
    refused(version, naming=name)


@pytest.mark.parametrize("name", [*FILES, "report/history.json"])
def test_a_truncated_file_is_named(version: Path, name: str) -> None:
    file = version / name
    file.write_bytes(file.read_bytes()[:-1])
    refused(version, naming=name)


@pytest.mark.parametrize("name", [*FILES, "report/history.json"])
def test_a_file_with_one_flipped_bit_is_named(version: Path, name: str) -> None:
    content = bytearray((version / name).read_bytes())
    content[len(content) // 2] ^= 1
    (version / name).write_bytes(content)
    refused(version, naming=name)


@pytest.mark.parametrize("name", FILES)
def test_a_required_file_that_the_manifest_does_not_list_is_named(version: Path, name: str) -> None:
    files = json.loads((version / MANIFEST).read_text())["files"]
    del files[name]
    edit_manifest(version, files=files)
    refused(version, naming=name)


@pytest.mark.parametrize("name", [*FILES, "report/history.json"])
def test_a_symbolic_link_in_place_of_a_file_is_named(version: Path, name: str) -> None:
    real = (version / name).rename(version.parent / "elsewhere")
    (version / name).symlink_to(real)
    refused(version, naming=name)


def test_a_symbolic_link_in_place_of_the_report_is_named(version: Path) -> None:
    real = (version / "report").rename(version.parent / "elsewhere")
    (version / "report").symlink_to(real)
    refused(version, naming="report/history.json")


def test_a_directory_in_place_of_a_file_is_named(version: Path) -> None:
    (version / WEIGHTS).unlink()
    (version / WEIGHTS).mkdir()
    refused(version, naming=WEIGHTS)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\xff" * 4096], ids=["empty", "zeros", "ones"])
def test_garbage_with_the_right_hash_is_named(version: Path, name: str, content: bytes) -> None:
    replace_file(version, name, content)
    refused(version, naming=name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("positions", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_a_flipped_byte_anywhere_with_the_right_hash_is_harmless_or_refused(
    version: Path, name: str, positions: int
) -> None:
    original = (version / name).read_bytes()
    for position in range(0, len(original), 1 + len(original) // positions):
        content = bytearray(original)
        content[position] ^= 0xFF
        replace_file(version, name, bytes(content))
        try:
            load(version.parent)
        except CheckpointCorruptError as error:
            assert name in str(error)  # noqa: PT017 - it may also load: most of the bytes are numbers


# The manifest


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"1" * 5000, b'{"format_version": 2}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "torn", "list", "null", "not UTF-8", "number", "bare", "nested lists", "nested objects"],
)
def test_a_manifest_that_is_none_is_named(version: Path, content: bytes) -> None:
    (version / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=MANIFEST):
        load(version.parent)


def test_a_huge_manifest_is_not_parsed(version: Path) -> None:
    with (version / MANIFEST).open("ab") as file:
        file.write(b" " * MAX_MANIFEST_BYTES)
    refused(version, naming="larger than")


def test_a_missing_manifest_is_named(version: Path) -> None:
    (version / MANIFEST).unlink()
    refused(version, naming=MANIFEST)


def test_a_linked_manifest_is_named(version: Path) -> None:
    real = (version / MANIFEST).rename(version.parent / "elsewhere")
    (version / MANIFEST).symlink_to(real)
    refused(version, naming=MANIFEST)


@pytest.mark.parametrize("found", [1, 2, 3, 0, "3", None, [3]])
def test_another_format_version_is_refused_as_such(version: Path, found: object) -> None:
    edit_manifest(version, format_version=found, whatever="a later format brings")
    refused(version, CheckpointFormatError, naming=f"format version {found!r}")


def test_a_version_that_was_renamed_is_refused(version: Path) -> None:
    other = version.rename(version.with_name("another"))
    refused(other, naming=version.name)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "report/../../x", "report/.x", "report"])
def test_a_file_name_outside_the_checkpoint_is_refused(version: Path, name: str) -> None:
    files = json.loads((version / MANIFEST).read_text())["files"]
    edit_manifest(version, files=files | {name: {"sha256": "0" * 64, "bytes": 0}})
    refused(version, naming="report" if name == "report" else MANIFEST)


def test_a_shape_that_the_weights_do_not_have_names_the_tensor(version: Path) -> None:
    shape = json.loads((version / MANIFEST).read_text())["model"]
    edit_manifest(version, model=shape | {"factors": 7})
    refused(version, naming="tensor user_factors has shape (4, 2), expected (4, 7)")


def claim_relevance_factors(version: Path, factors: int | None) -> None:
    shape = json.loads((version / MANIFEST).read_text())["model"]
    rule = None if factors is None else RULE.model_dump()
    edit_manifest(version, model=shape | {"relevance_factors": factors, "relevance_rule": rule})


def test_a_relevance_head_that_the_manifest_denies_is_named(version: Path) -> None:
    claim_relevance_factors(version, None)
    refused(version, naming=f"{RELEVANCE}: not expected")


def test_a_relevance_head_that_the_manifest_neither_lists_nor_claims_is_named(tmp_path: Path) -> None:
    version = tmp_path / publish(tmp_path, small_draft()).version
    (version / RELEVANCE).write_bytes(b"")
    refused(version, naming=f"{RELEVANCE}: not expected")


def test_a_relevance_head_that_only_the_manifest_has_is_named(tmp_path: Path) -> None:
    version = tmp_path / publish(tmp_path, small_draft()).version
    claim_relevance_factors(version, 3)
    refused(version, naming=f"{RELEVANCE}: the manifest does not list it")


def test_another_rank_of_the_relevance_head_names_the_tensor(version: Path) -> None:
    claim_relevance_factors(version, 7)
    refused(version, naming="tensor user_factors has shape (4, 3), expected (4, 7)")


# Tensors


def slots(*rows: int) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32)


TENSOR_ATTACKS = {
    "wrong shape": (WEIGHTS, {"item_bias": torch.zeros(4)}, "tensor item_bias has shape (4,), expected (5,)"),
    "transposed": (WEIGHTS, {"user_factors": torch.zeros(2, 4)}, "tensor user_factors has shape (2, 4)"),
    "wrong type": (WEIGHTS, {"mean": torch.zeros((), dtype=torch.float64)}, "tensor mean is torch.float64"),
    "missing": (WEIGHTS, {"mean": None}, WEIGHTS),
    "extra": (WEIGHTS, {"more": torch.zeros(1)}, "more"),
    "not a number": (WEIGHTS, {"item_bias": torch.tensor([0, 0, 0, 0, torch.nan])}, "tensor item_bias"),
    "infinite": (WEIGHTS, {"mean": torch.tensor(torch.inf)}, "tensor mean"),
    "so large that predictions overflow": (WEIGHTS, {"user_factors": torch.full((4, 2), 1e16)}, "tensor user_factors"),
    "uncalled-for variance": (WEIGHTS, {"noise_variance": torch.tensor(1.0)}, "noise_variance"),
    "relevance of another shape": (
        RELEVANCE,
        {"item_factors": torch.zeros(4, 3)},
        "tensor item_factors has shape (4, 3)",
    ),
    "relevance of another type": (
        RELEVANCE,
        {"user_factors": torch.zeros(4, 3).half()},
        "tensor user_factors is torch",
    ),
    "relevance missing": (RELEVANCE, {"item_factors": None}, RELEVANCE),
    "relevance extra": (RELEVANCE, {"item_bias": torch.zeros(5)}, "item_bias"),
    "relevance not finite": (RELEVANCE, {"item_factors": torch.full((5, 3), torch.nan)}, "tensor item_factors has"),
    "offsets of another type": (SEEN, {"offsets": torch.zeros(5, dtype=torch.int32)}, "tensor offsets is torch.int32"),
    "offsets too few": (SEEN, {"offsets": torch.tensor([0, 2, 2, 3])}, "tensor offsets has shape (4,), expected (5,)"),
    "offsets not ascending": (SEEN, {"offsets": torch.tensor([0, 3, 2, 3, 3])}, "tensor offsets"),
    "offsets negative": (SEEN, {"offsets": torch.tensor([0, -1, 2, 3, 3])}, "tensor offsets"),
    "offsets not from zero": (SEEN, {"offsets": torch.tensor([1, 2, 2, 3, 3])}, "tensor offsets"),
    "offsets past the end": (SEEN, {"offsets": torch.tensor([0, 2, 2, 4, 4])}, "tensor offsets"),
    "the unknown user has seen": (SEEN, {"offsets": torch.tensor([0, 1, 1, 2, 3])}, "tensor offsets"),
    "an item past the end": (SEEN, {"items": torch.tensor([0, 1, 4], dtype=torch.int32)}, "tensor items"),
    "a negative item": (SEEN, {"items": torch.tensor([0, 1, -1], dtype=torch.int32)}, "tensor items"),
    "slots of another type": (VOCABULARY, {"user_slots": torch.zeros(16)}, "tensor user_slots is torch.float32"),
    "slots too few": (VOCABULARY, {"user_slots": slots(0, 1, 2, -1)}, "tensor user_slots"),
    "slots not a power of two": (VOCABULARY, {"item_slots": slots(0, 1, 2, 3, *[-1] * 8)}, "tensor item_slots"),
    "slots full of one row": (VOCABULARY, {"item_slots": slots(*[0] * 16)}, "tensor item_slots"),
    "slots that miss an id": (VOCABULARY, {"item_slots": slots(0, 1, 2, 3, *[-1] * 12)}, "tensor item_slots"),
    "slots past the end": (VOCABULARY, {"user_slots": slots(0, 1, 3, *[-1] * 13)}, "tensor user_slots"),
    "no slots": (VOCABULARY, {"item_slots": None}, VOCABULARY),
    "items in two dimensions": (SEEN, {"items": torch.zeros(3, 1, dtype=torch.int32)}, "tensor"),
    "items of no dimension": (SEEN, {"items": torch.zeros((), dtype=torch.int32)}, "tensor"),
}


@pytest.mark.parametrize(("name", "changes", "naming"), TENSOR_ATTACKS.values(), ids=TENSOR_ATTACKS)
def test_a_bad_tensor_is_named(version: Path, name: str, changes: dict[str, torch.Tensor | None], naming: str) -> None:
    replace_tensors(version, name, changes)
    refused(version, naming=naming)


def test_a_negative_variance_is_named(tmp_path: Path) -> None:
    known = {"noise_variance": torch.tensor(0.5), "user_variance": torch.ones(4), "item_variance": torch.ones(5)}
    version = tmp_path / publish(tmp_path, small_draft(model=small_model(**known))).version
    replace_tensors(version, WEIGHTS, {"user_variance": torch.tensor([1.0, 1.0, -1.0, 1.0])})
    refused(version, naming="tensor user_variance")


def test_attacks_start_from_tensors_that_are_accepted(version: Path) -> None:
    for name in (WEIGHTS, RELEVANCE):
        replace_tensors(version, name, load_file(version / name))
    assert isinstance(load(version.parent), Checkpoint)


# Vocabularies


def users(*ids: str | None) -> pa.Table:
    return pa.table({"id": ids}, USER_SCHEMA)


def items(**columns: list[object]) -> pa.Table:
    table = small_draft().items.to_pydict() | columns
    return pa.table(table, schema=ITEM_SCHEMA if set(table) == set(ITEM_SCHEMA.names) else None)


TABLE_ATTACKS: dict[str, tuple[str, Callable[[], pa.Table]]] = {
    "duplicate user": (USERS, lambda: users("u0", "u1", "u0")),
    "null user": (USERS, lambda: users("u0", None, "u2")),
    "a user too few": (USERS, lambda: users("u0", "u1")),
    "a user too many": (USERS, lambda: users("u0", "u1", "u2", "u3")),
    "no users": (USERS, users),
    "users as numbers": (USERS, lambda: pa.table({"id": [0, 1, 2]})),
    "another column": (USERS, lambda: users("u0", "u1", "u2").append_column("x", [[1, 2, 3]])),
    "other users": (USERS, lambda: users("u0", "u1", "u3")),
    "counts that do not add up": (ITEMS, lambda: items(ratings=[1, 1, 1, 1])),
    "negative counts": (ITEMS, lambda: items(ratings=[3, 1, -1, 0])),
    "no counts": (ITEMS, lambda: small_draft().items.drop_columns("ratings")),
    "duplicate item": (ITEMS, lambda: items(id=["i0", "i1", "i2", "i0"])),
    "no titles": (ITEMS, lambda: small_draft().items.drop_columns("title")),
    "text for a year": (ITEMS, lambda: small_draft().items.set_column(2, "year", [["1", "2", "3", "4"]])),
}


@pytest.mark.parametrize(("name", "table"), TABLE_ATTACKS.values(), ids=TABLE_ATTACKS)
def test_a_bad_table_is_named(version: Path, name: str, table: Callable[[], pa.Table]) -> None:
    replace_table(version, name, table())
    refused(version, naming=name)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize(("name", "table"), [(USERS, small_draft().users), (ITEMS, small_draft().items)])
def test_a_compressed_table_is_refused(version: Path, name: str, table: pa.Table, codec: str) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table)
    replace_file(version, name, sink.getvalue().to_pybytes())
    refused(version, naming=f"{name}: not an Arrow file: compressed")


def test_tensors_that_are_not_aligned_in_their_file_are_named(version: Path) -> None:
    content = (version / VOCABULARY).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length] + b" "
    replace_file(version, VOCABULARY, len(header).to_bytes(8, "little") + header + content[8 + length :])
    refused(version, naming="begins at a byte")


# What has been verified before


def test_files_that_were_verified_are_not_read_again_until_they_change(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification_cache, "SETTLED_SECONDS", 0)
    hashed = []
    monkeypatch.setattr(files, "hash_file", lambda file: (hashed.append(file.name), hash_file(file))[1])
    first = load(version.parent)
    assert set(hashed) == {*REQUIRED_FILES, RELEVANCE, "history.json"}
    hashed.clear()
    again = load(version.parent)
    assert hashed == []
    assert again.users.rows(["u1"]).tolist() == [1]
    assert torch.equal(again.model.item_factors, first.model.item_factors)
    content = (version / WEIGHTS).read_bytes()
    (version / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(version, naming="sha256")


def test_files_that_were_refused_are_refused_again(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification_cache, "SETTLED_SECONDS", 0)
    replace_tensors(version, WEIGHTS, {"mean": torch.tensor(torch.inf)})
    for _ in range(2):
        refused(version, naming="tensor mean")


def test_files_just_written_are_not_taken_for_settled(version: Path) -> None:
    before = set(verification_cache.verified)
    load(version.parent)
    assert verification_cache.verified == before


# CURRENT, and versions that are not there


def test_nothing_published_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint has been published"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../elsewhere", b"a b", b"." * 1000, b"/etc"])
def test_a_pointer_that_holds_no_version_name_is_refused(version: Path, content: bytes) -> None:
    (version.parent / CURRENT).write_bytes(content)
    with pytest.raises(CheckpointCorruptError, match=CURRENT):
        current_version(version.parent)


def test_a_pointer_that_is_a_directory_is_refused(version: Path) -> None:
    (version.parent / CURRENT).unlink()
    (version.parent / CURRENT).mkdir()
    with pytest.raises(CheckpointCorruptError, match=CURRENT):
        load(version.parent)


@pytest.mark.parametrize("name", ["absent", "a/b", "", ".", ".."])
def test_a_version_that_is_not_there_is_not_found(version: Path, name: str) -> None:
    with pytest.raises(CheckpointNotFoundError):
        load(version.parent, name)


def test_a_pointer_to_nothing_names_what_is_missing(version: Path) -> None:
    (version.parent / CURRENT).write_text("absent\n")
    with pytest.raises(CheckpointNotFoundError, match="absent"):
        load(version.parent)


def test_a_path_in_place_of_a_version_leads_nowhere(version: Path) -> None:
    (version.parent / "served").mkdir()
    for name in (f"../{version.name}", str(version)):
        with pytest.raises(CheckpointNotFoundError):
            load(version.parent / "served", name)
