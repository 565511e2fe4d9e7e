"""Formats that people have ratings in and that are not read: what they are, and what to do instead."""

from __future__ import annotations

from collections.abc import Collection

SAVE = "save the sheet as CSV"
CONVERT = "write it as Parquet or CSV"
BY_BEGINNING = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": f"an Excel workbook: {SAVE}",
    b"SQLite format 3\0": "an SQLite database: give sqlite:///FILE with --table",
    b"%PDF-": "a PDF document",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: extract it",
    b"Rar!\x1a\x07": "a RAR archive: extract it",
    b"\x04\x22\x4d\x18": "an lz4 file: decompress it",
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file: {CONVERT}",
    b"\x93NUMPY": f"a NumPy array: {CONVERT}",
    b"Obj\x01": f"an Avro file: {CONVERT}",
    b"ORC": f"an ORC file: {CONVERT}",
    **{bytes([0x80, version]): f"a pickle: {CONVERT}" for version in range(2, 6)},
}
TAR_AT, TAR = 257, b"ustar"
WORKBOOK = "xl/workbook.xml"


def named(head: bytes) -> str | None:
    """What a file is that begins so, and what to do with it; None for one that may be read."""
    if head[TAR_AT:].startswith(TAR):
        return "a tar archive: extract it"
    return next((what for beginning, what in BY_BEGINNING.items() if head.startswith(beginning)), None)


def archive_named(members: Collection[str]) -> str | None:
    """The same for the names in a zip archive."""
    return f"an Excel workbook: {SAVE}" if WORKBOOK in members else None
