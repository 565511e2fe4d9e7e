"""msgpack: the documents of `POST /predict` in JSON, member for member."""

from __future__ import annotations

import re

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from app.api.encodings.ids import id_texts, too_many_pairs
from app.engine.types import SOURCES, Pair, Pairs, Prediction, Predictions, shortest
from models.did_you_mean import unknown_name

MEDIA_TYPE = "application/msgpack"
_encode = msgspec.msgpack.Encoder().encode
_Id = str | int | float


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    user: _Id | UnsetType = UNSET
    item: _Id | UnsetType = UNSET
    users: list[_Id] | UnsetType = UNSET
    items: list[_Id] | UnsetType = UNSET


class _Columns(msgspec.Struct):
    users: msgspec.Raw = msgspec.Raw(b"\x90")
    items: msgspec.Raw = msgspec.Raw(b"\x90")


_decode = msgspec.msgpack.Decoder(_Body).decode
_decode_columns = msgspec.msgpack.Decoder(_Columns).decode
UNKNOWN = re.compile("Object contains unknown field `(.*)`", re.DOTALL).fullmatch
ARRAYS = {0xDC: 2, 0xDD: 4}  # bytes of the length behind the first byte of a long array


def decode(content: bytes, most: int) -> Pair | Pairs:
    """What a body asks for: a pair, or at most `most`. Raises ValueError, whose message does not repeat the body."""
    try:
        if len(content) > most:
            _check_lengths(content, most)
        body = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a valid msgpack body: {_reason(error)}") from error
    user, item, users, items = body.user, body.item, body.users, body.items
    if users is UNSET and items is UNSET and user is not UNSET and item is not UNSET:
        return Pair(*id_texts([user, item]))
    if user is UNSET and item is UNSET and users is not UNSET and items is not UNSET:
        return Pairs(id_texts(users), id_texts(items))
    raise ValueError("not a valid msgpack body: it must have either user and item, or users and items")


def _check_lengths(content: bytes, most: int) -> None:
    """Raise ValueError for columns that say that they are too long: an id may take a byte of a body, 100 of memory."""
    columns = _decode_columns(content)
    for column in (bytes(columns.users), bytes(columns.items)):
        size = ARRAYS.get(column[0], 0)
        if int.from_bytes(column[1 : 1 + size]) > most:
            raise ValueError(too_many_pairs(most))


def _reason(error: Exception) -> str:
    """The message of msgspec, which repeats no value; a member that is not known is named as in JSON."""
    if not isinstance(error, msgspec.DecodeError):
        return "malformed"
    unknown = UNKNOWN(str(error))
    return str(error) if unknown is None else unknown_name("member", unknown[1], _Body.__struct_fields__)


def encode_predictions(answer: Prediction | Predictions) -> bytes:
    """The answer to one pair, or to columns. Ratings are the float64 numbers of the JSON document."""
    if isinstance(answer, Prediction):
        (rating,) = shortest(np.array([answer.rating]))
        found = {"rating": rating, "source": answer.source, "model_version": answer.version}
    else:
        sources = [SOURCES[source] for source in answer.sources_B.tolist()]
        found = {"ratings": shortest(answer.ratings_B), "sources": sources, "model_version": answer.version}
    return _encode(found | answer.ends)
