"""msgpack: the documents of `POST /predict` in JSON, member for member."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from app.api.encodings.ids import id_texts
from app.engine.types import SOURCES, Pair, Pairs, Prediction, Predictions

MEDIA_TYPE = "application/msgpack"
_encode = msgspec.msgpack.Encoder().encode
_Id = str | int | float


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    user: _Id | UnsetType = UNSET
    item: _Id | UnsetType = UNSET
    users: list[_Id] | UnsetType = UNSET
    items: list[_Id] | UnsetType = UNSET


_decode = msgspec.msgpack.Decoder(_Body).decode


def decode(content: bytes) -> Pair | Pairs:
    """The pairs of a body. Raises ValueError, whose message does not repeat the body."""
    try:
        body = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a valid msgpack body: {_reason(error)}") from error
    user, item, users, items = body.user, body.item, body.users, body.items
    if users is UNSET and items is UNSET and user is not UNSET and item is not UNSET:
        return Pair(*id_texts([user, item]))
    if user is UNSET and item is UNSET and users is not UNSET and items is not UNSET:
        return Pairs(id_texts(users), id_texts(items))
    raise ValueError("not a valid msgpack body: it must have either user and item, or users and items")


def _reason(error: Exception) -> str:
    """The message of msgspec, unless it repeats the name of an unknown member, which comes from the client."""
    if not isinstance(error, msgspec.DecodeError):
        return "malformed"
    return "it has an unknown member" if "unknown field" in str(error) else str(error)


def encode_predictions(answer: Prediction | Predictions) -> bytes:
    """The answer to one pair, or to columns. Ratings are float64 with float32 values."""
    if isinstance(answer, Prediction):
        found = {"rating": answer.rating, "source": answer.source, "model_version": answer.version}
    else:
        sources = [SOURCES[source] for source in answer.sources_B.tolist()]
        found = {"ratings": answer.ratings_B.tolist(), "sources": sources, "model_version": answer.version}
    return _encode(found | answer.ends())
