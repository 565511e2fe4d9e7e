"""Recognises how a delimited text is written, from its first lines and from options. It reads no rows."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from training.data.origin import NAMES, RATING, Selection
from training.errors import ConfigError
from training.options import SourceOptions

BOMS = {  # that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WIDE = ("utf-16", "utf-32")  # several bytes make a character, in an order that a byte order mark says
FOR_HOSTS = ("idna", "punycode")  # Python's names of encodings that no file has
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", "::": "::", ":": "colons", " ": "blanks"}
SPELLINGS = {"comma": ",", "semicolon": ";", "tab": "\t", r"\t": "\t", "bar": "|", "colon": ":", "blank": " "}
WEAK = (":", " ")  # they also occur in times and names, so they count only if no other separator fits
BY_ENDING = {".csv": ",", ".tsv": "\t", ".data": "\t", ".base": "\t", ".test": "\t", ".dat": "::"}
MOST_UNEVEN = 0.1  # share of the first lines that may have another number of fields; reading names them
POSITIONS = {name: str(position) for position, name in enumerate(NAMES, 1)}
CORNERS = frozenset(  # of a table with a row for each user and a column for each item, or the other way round
    (
        "",  # as pandas writes an index without a name
        *("id", "uid", "iid", "index", "rowid", "unnamed0"),
        *(word + end for word in ("user", "item", "movie", "book", "product", "customer") for end in ("", "s", "id")),
        *("username", "itemname", "useritem", "itemuser", "usersitems", "itemsusers", "useriditemid", "itemiduserid"),
    )
)
_no_letters = re.compile(r"[\W_]+")
_between_blanks = re.compile(r"[^ \t]+").findall


class Quotes(Enum):
    """The meaning of a double quote at the beginning of a field."""

    FIELD = "the field goes to the next single quote; a text that breaks this rule is refused"
    PERHAPS = "the same if the whole text keeps the rule, and else nothing"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text is written.

    Attributes:
        separator: one character, "::", or a blank for runs of blanks and tabs.
        names: of the columns where the text does not name them; None if its first line has the names.
        quotes: the meaning of quotes.
        encoding: as Python names it.
        decimal: the sign between whole number and fraction.
    """

    separator: str
    names: tuple[str, ...] | None = None
    quotes: Quotes = Quotes.FIELD
    encoding: str = "utf-8"
    decimal: str = "."

    def __str__(self) -> str:
        header = "a header" if self.names is None else "no header"
        return f"fields separated by {SEPARATORS.get(self.separator, self.separator)}, {header}, {self.encoding}"

    def split(self, line: str) -> list[str]:
        """The fields of a line that is a complete record. Quotes that enclose no fields are ordinary characters."""
        if self.separator == " ":
            return _between_blanks(line)
        if self.quotes is Quotes.NOTHING:
            return line.split(self.separator)
        try:
            return next(csv.reader([line], delimiter=self.separator, strict=self.quotes is Quotes.PERHAPS), [])
        except csv.Error:
            return line.split(self.separator)

    def number(self, text: str) -> float:
        """The number that a field holds. Raises ValueError if it holds none."""
        # Python groups digits by underscores, and reads digits of all scripts.
        if "_" in text or not text.isascii() or (self.decimal != "." and "." in text):
            raise ValueError(text)
        return float(text.replace(self.decimal, "."))

    def is_number(self, text: str) -> bool:
        """Whether a field holds a number."""
        try:
            self.number(text)
        except ValueError:
            return False
        return True


def encoding_of(head: bytes, options: SourceOptions) -> str:
    """The encoding of a text with these first bytes: the given one, else that of its byte order mark, else UTF-8.

    UTF-16 and UTF-32 without a mark have the order of bytes that their first bytes show. Raises ConfigError if the
    encoding that is given is unknown, or is one of these and the bytes are not.
    """
    marked = next((encoding for bom, encoding in BOMS.items() if head.startswith(bom)), None)
    if options.encoding is None:
        return marked or "utf-8"
    try:
        "".encode(options.encoding)
        encoding = codecs.lookup(options.encoding).name
    except (LookupError, ValueError):
        encoding = FOR_HOSTS[0]
    if encoding in FOR_HOSTS:
        raise ConfigError(f"--encoding {options.encoding}: Python knows no encoding of texts with this name")
    if encoding not in WIDE or marked == encoding or not head:
        return encoding
    if zeros := wide_encoding(head):
        return zeros
    raise ConfigError(f"--encoding {options.encoding}: the data is not {encoding}, in which many bytes are zero")


def wide_encoding(head: bytes) -> str | None:
    """The encoding of a text without byte order mark that the places of its zero bytes show: of UTF-16 or UTF-32."""
    zeros = [head[place::4].count(0) for place in range(4)]
    if not any(zeros):
        return None
    bits = 32 if max(zeros[0] + zeros[1], zeros[2] + zeros[3]) * 8 >= len(head) * 3 else 16
    return f"utf-{bits}-{'be' if zeros[0] > zeros[3] else 'le'}"


def separator_given(text: str) -> str:
    """The separator that `--separator` names. Raises ConfigError for an invalid one."""
    separator = SPELLINGS.get(text.lower(), text)
    if separator not in SEPARATORS and (len(separator) != 1 or separator in '"\r\n.' or separator.isalnum()):
        known = ", ".join([*SPELLINGS, "::"])
        raise ConfigError(f"--separator {text!r}: give one character that is not a letter, digit or quote, or {known}")
    return separator


def recognised(
    lines: Sequence[str], ending: str, encoding: str, options: SourceOptions, selection: Selection
) -> Dialect:
    """The dialect of a text that begins with these lines, of which none is blank.

    A header is a first line with the names of the columns; a first line with two ids and a number in their places is
    a rating. A first line that is neither counts as a header; its names are then reported as wrong.
    """
    fewest = max(len(selection.required), 2)
    dialects = {
        separator: Dialect(separator, None, _quotes(separator, options), encoding, options.decimal)
        for separator in ([separator_given(options.separator)] if options.separator is not None else SEPARATORS)
    }
    dialect = dialects[_separator(lines, BY_ENDING.get(ending, ","), dialects, fewest)]
    first = dialect.split(lines[0])
    has_names = selection.is_header(first) or not _is_rating(first, dialect, selection)
    has_names = has_names or names_a_pivot(first, lines[1:], dialect, selection)
    if tuple(selection.required) != RATING:
        has_names = not _is_item(first, dialect, selection)
    if options.header and has_names:
        return dialect
    names = tuple(str(position + 1) for position in range(len(first)))
    return Dialect(dialect.separator, names, dialect.quotes, encoding, options.decimal)


def _quotes(separator: str, options: SourceOptions) -> Quotes:
    if not options.quotes or separator in ("::", " "):
        return Quotes.NOTHING
    return Quotes.FIELD if separator in ",;" else Quotes.PERHAPS


def _separator(lines: Sequence[str], default: str, dialects: Mapping[str, Dialect], fewest: int) -> str:
    """The separator that gives the first line, and nearly all others, the same number of fields, not too few.

    If several do, that of the file's ending, then the one with the most fields.
    """
    if len(dialects) == 1:
        return next(iter(dialects))
    widths = {separator: [len(dialect.split(line)) for line in lines] for separator, dialect in dialects.items()}
    even = {separator: Counter(found)[found[0]] / len(found) for separator, found in widths.items()}
    fitting = [sep for sep, found in widths.items() if found[0] >= fewest and even[sep] >= 1 - MOST_UNEVEN]
    strong = [separator for separator in fitting if separator not in WEAK]
    if candidates := strong or fitting:
        return max(candidates, key=lambda separator: (separator == default, even[separator], widths[separator][0]))
    likely = max(widths, key=lambda separator: (widths[separator][0] >= fewest, even[separator]))
    return likely if widths[likely][0] >= fewest and likely not in WEAK else default


def names_a_pivot(first: Sequence[str], others: Sequence[str], dialect: Dialect, selection: Selection) -> bool:
    """Whether a first line has a word before different numbers, such as `user,11,12`, and it names items.

    The word is a usual one (even if positions are given), or all other lines begin with a number, or the numbers ascend
    and are larger than all numbers below them.
    """
    corner, numbers = first[0].strip(), [field.strip() for field in first[1:]]
    if dialect.is_number(corner) or len(set(numbers)) < max(2, len(numbers)):
        return False
    if not all(map(dialect.is_number, numbers)):
        return False
    if _no_letters.sub("", corner.lower()) in CORNERS:
        return True
    rows = [[field.strip() for field in dialect.split(line)] for line in others]
    if selection.places_ratings or not rows:
        return False
    if corner.isidentifier() and all(row and dialect.is_number(row[0]) for row in rows):
        return True
    ids = list(map(dialect.number, numbers))
    below = [dialect.number(field) for row in rows for field in row[1:] if dialect.is_number(field)]
    return len(ids) > len(RATING) - 1 and ids == sorted(ids) and ids[0] > max(below, default=math.inf)


def _is_item(fields: Sequence[str], dialect: Dialect, selection: Selection) -> bool:
    """Whether a first line is a row of a table whose ids are at a given position: it has a number there."""
    place = selection.renamed.get("id", "")
    return place.isdecimal() and 0 < int(place) <= len(fields) and dialect.is_number(fields[int(place) - 1])


def _is_rating(fields: Sequence[str], dialect: Dialect, selection: Selection) -> bool:
    """Whether a first line is a rating, with its columns in the given or the usual places."""
    places = {name: selection.renamed.get(name, POSITIONS[name]) for name in RATING}
    try:
        user, item, rating = (fields[int(place) - 1].strip() for place in places.values() if int(place) > 0)
        return bool(user and item) and math.isfinite(dialect.number(rating))
    except (ValueError, IndexError):
        return False
