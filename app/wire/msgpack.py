"""msgpack: the documents of `POST /predict` in JSON, member for member."""

from __future__ import annotations

import msgspec

from app.engine.answers import SOURCES, Pair, Pairs, Prediction, Predictions

MEDIA_TYPE = "application/msgpack"
_encode = msgspec.msgpack.Encoder().encode
_Id = str | int


class _Pair(msgspec.Struct, forbid_unknown_fields=True):
    user: _Id
    item: _Id


class _Columns(msgspec.Struct, forbid_unknown_fields=True):
    users: list[_Id]
    items: list[_Id]


_pair, _columns = msgspec.msgpack.Decoder(_Pair), msgspec.msgpack.Decoder(_Columns)


def decode(body: bytes) -> Pair | Pairs:
    """What a body asks for. Raises ValueError, whose message does not repeat the body."""
    try:
        try:
            pair = _pair.decode(body)  # fails at the first key of columns
        except msgspec.ValidationError:
            columns = _columns.decode(body)
            return Pairs(_texts(columns.users), _texts(columns.items))
        return Pair(*_texts([pair.user, pair.item]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.DecodeError) else "malformed"
        raise ValueError(f"not the msgpack wanted: {reason}") from error


def encode_predictions(answer: Prediction | Predictions) -> bytes:
    """The answer to one pair, or to columns. Ratings are float64 with float32 values."""
    if isinstance(answer, Prediction):
        return _encode({"rating": answer.rating, "source": answer.source, "model_version": answer.version})
    sources = [SOURCES[source] for source in answer.sources_B.tolist()]
    return _encode({"ratings": answer.ratings_B.tolist(), "sources": sources, "model_version": answer.version})


def _texts(ids: list[str | int]) -> list[str]:
    return [id_ if isinstance(id_, str) else str(id_) for id_ in ids]
