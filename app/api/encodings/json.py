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
from app.engine.types import SOURCES, Pair, Pairs, Prediction, Predictions, TopList, digits
from models.ids import clean
from models.times import LAST_SECOND

MEDIA_TYPE = "application/json"
encode = msgspec.json.Encoder().encode
PIECE = 1 << 18  # bytes that are looked at together
COMMA, COLON, BRACKET, BRACE, QUOTE, BACKSLASH = b',:[{"\\'
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


def has_more_values(body: bytes, most: int, members: int) -> bool:
    """Whether a text of JSON holds more values than `most`, or more than so many members of objects.

    They are counted by commas, opening brackets and colons outside strings.
    Made into objects, a value of two bytes takes a hundred. To count them takes about 5 ns a byte, on any thread.
    """
    found, named, inside, at = 0, 0, False, 0
    while at < len(body) and found <= most and named <= members:
        end = min(at + PIECE, len(body))
        if body[end - 1] == BACKSLASH:  # what it escapes is in the same piece
            run = end - at - len(body[at:end].rstrip(b"\\"))
            end = min(end + run % 2, len(body))
        text = np.frombuffer(body, np.uint8, end - at, at)
        quotes = text == QUOTE
        quotes[_escaped(text)] = False
        strings = np.logical_xor.accumulate(quotes) ^ inside
        structure = (text == COMMA) | (text == BRACKET) | (text == BRACE)
        found += int(np.count_nonzero(structure & ~strings))
        named += int(np.count_nonzero((text == COLON) & ~strings))
        inside, at = bool(strings[-1]), end
    return found > most or named > members


def _escaped(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Positions behind each backslash that is not itself escaped."""
    slashes = np.flatnonzero(text == BACKSLASH)
    runs = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
    within_run = np.arange(len(slashes)) - np.repeat(runs, np.diff(runs, append=len(slashes)))
    escaped: npt.NDArray[np.int64] = slashes[within_run % 2 == 0] + 1
    return escaped[escaped < len(text)]


def encode_predictions(answer: Prediction | Predictions, **more: int) -> bytes:
    """The answer to one pair, or to columns, with the members in `more`."""
    if isinstance(answer, Prediction):
        rating = msgspec.Raw(digits(np.float32(answer.rating)))
        found = {"rating": rating, "source": answer.source, "model_version": answer.version}
    else:
        ratings, sources = msgspec.Raw(digits(answer.ratings_B)), _sources(answer.sources_B)
        found = {"ratings": ratings, "sources": sources, "model_version": answer.version}
    return encode(found | answer.ends | more)


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
