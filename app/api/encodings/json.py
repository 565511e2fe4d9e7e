"""JSON: plain bodies straight into columns, answers in one pass.

`Decoder` decodes only plain bodies. Pydantic validates every other body and explains what is wrong
with it (`app.api.schemas`).
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from app.api.encodings.ids import id_texts
from app.engine.types import SOURCES, Pair, Pairs, Prediction, Predictions, TopList
from models.ids import clean
from models.times import LAST_SECOND

MEDIA_TYPE = "application/json"
encode = msgspec.json.Encoder().encode
_SOURCES = [f'"{source}",'.encode() for source in SOURCES]


class Decoder:
    """Decodes bodies of `POST /predict`.

    Args:
        id_length: most characters of an id.
    """

    def __init__(self, id_length: int) -> None:
        text: Any = Annotated[str, msgspec.Meta(min_length=1, max_length=id_length)]
        id_: Any = text | int | float
        forms = [("pair", ("user", "item"), id_), ("columns", ("users", "items"), list[id_])]
        pair, columns = (
            msgspec.defstruct(name, [(field, type_) for field in fields], forbid_unknown_fields=True)
            for name, fields, type_ in forms
        )
        self._pair = msgspec.json.Decoder(pair)
        self._columns = msgspec.json.Decoder(columns)
        self._id_length = id_length

    def __call__(self, body: bytes) -> Pair | Pairs | None:
        """The pairs of a body; None if it is not plain: invalid, or with an id of blanks or of very many digits."""
        try:
            if b'"users"' in body:
                columns: Any = self._columns.decode(body)
                return Pairs(self._texts(columns.users), self._texts(columns.items))
            pair: Any = self._pair.decode(body)
            user, item = pair.user, pair.item
            if user.__class__ is item.__class__ is str:
                user = user if user.isalnum() else clean(user)
                item = item if item.isalnum() else clean(item)
                return Pair(user, item) if user and item else None
            return Pair(*self._texts([user, item]))
        except ValueError:  # of which msgspec's errors are
            return None

    def _texts(self, ids: list[Any]) -> list[str]:
        """Raises ValueError for an id that cannot be used."""
        texts = id_texts(ids)
        if texts is not ids and not all(0 < len(text) <= self._id_length for text in texts):
            raise ValueError
        return texts


decoder = cache(Decoder)


class RatingBody(msgspec.Struct, forbid_unknown_fields=True):
    """The plain body of a rating."""

    rating: float
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=LAST_SECOND)] | None = None


_decode_rating = msgspec.json.Decoder(RatingBody).decode


def decode_rating(body: bytes) -> RatingBody | None:
    """The body of `PUT /users/{user}/ratings/{item}`, decoded; None if it is not plain."""
    try:
        return _decode_rating(body)
    except ValueError:
        return None


def encode_predictions(answer: Prediction | Predictions, **more: int) -> bytes:
    """The answer to one pair, or to columns, with the members in `more`."""
    if isinstance(answer, Prediction):
        found = {"rating": answer.rating, "source": answer.source, "model_version": answer.version}
    else:
        ratings, sources = answer.ratings_B.tolist(), _sources(answer.sources_B)
        found = {"ratings": ratings, "sources": sources, "model_version": answer.version}
    return encode(found | answer.ends() | more)


def encode_list(answer: TopList) -> bytes:
    """One list."""
    return encode(_list(answer) | {"model_version": answer.version})


def encode_lists(answers: list[TopList], version: str, **more: int) -> bytes:
    """Several lists of one version, with the members in `more`."""
    return encode({"lists": [_list(answer) for answer in answers], "model_version": version} | more)


def _list(answer: TopList) -> dict[str, Any]:
    items: list[Any] = answer.items
    if answer.intervals is not None:
        pairs = zip(items, answer.intervals, strict=True)
        items = [msgspec.structs.asdict(item) | interval._asdict() for item, interval in pairs]
    return {"user": answer.user, "source": answer.source, "rank_by": answer.rank_by, "items": items}


def _sources(sources_B: npt.NDArray[np.uint8]) -> msgspec.Raw:
    """The column as JSON: each byte of it is replaced by the text it stands for, and texts hold no such bytes."""
    column = sources_B.tobytes()
    for number, source in enumerate(_SOURCES):
        column = column.replace(bytes([number]), source)
    return msgspec.Raw(b"[" + column[:-1] + b"]")
