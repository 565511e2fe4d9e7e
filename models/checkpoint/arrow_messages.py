"""Checks the messages of an Arrow IPC stream before Arrow decodes them.

A compressed buffer states its uncompressed size, so a small input could ask for any amount of memory. Arrow
cannot refuse it. A message names its compression in its flatbuffer (Message.fbs), which this module reads that far.
"""

from __future__ import annotations

import struct

import pyarrow as pa

# Numbers of the fields: unions are two fields, the type and the value.
_VERSION, _HEADER_TYPE, _HEADER, _DATA_OF_DICTIONARY, _COMPRESSION = 0, 1, 2, 1, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_VERSION_5 = 4  # they are counted from 0


def refuse_compressed(stream: pa.Buffer) -> None:
    """Raise ValueError for a stream that is compressed or malformed; its message does not repeat the content.

    Before format 1.0 (2020) messages named their compression elsewhere, and Arrow still looks there: streams
    of that age are refused too.
    """
    try:
        for message in pa.ipc.MessageReader.open_stream(stream):
            metadata = message.metadata.to_pybytes()
            root = struct.unpack_from("<I", metadata)[0]
            version = _field(metadata, root, _VERSION)
            if version is None or struct.unpack_from("<h", metadata, version)[0] != _VERSION_5:
                raise ValueError("Arrow streams of a format before 1.0 are not accepted")
            if _is_compressed(metadata, root):
                raise ValueError("compressed Arrow streams are not accepted")
    except (pa.ArrowException, OSError, EOFError, struct.error, IndexError) as error:
        raise ValueError(f"not a readable Arrow stream: {type(error).__name__}") from error


def _is_compressed(metadata: bytes, root: int) -> bool:
    """Whether a message's buffers are compressed, from its flatbuffer. Raises struct.error for a broken one."""
    header_type = _field(metadata, root, _HEADER_TYPE)
    kind = metadata[header_type] if header_type is not None else 0
    batch = _table(metadata, root, _HEADER)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = _table(metadata, batch, _DATA_OF_DICTIONARY)
    elif kind != _RECORD_BATCH:
        return False
    return batch is not None and _field(metadata, batch, _COMPRESSION) is not None


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table begins; None if it is absent."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if vtable < 0 or struct.unpack_from("<H", metadata, vtable)[0] < 6 + 2 * number:
        return None
    offset = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _table(metadata: bytes, table: int, number: int) -> int | None:
    """Where the table that a field points to begins."""
    at = _field(metadata, table, number)
    return None if at is None else at + struct.unpack_from("<I", metadata, at)[0]
