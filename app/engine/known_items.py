"""What is known of a store's items, at one of its revisions: a table that is searched by id, and few later changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from models.checkpoint.vocabulary import Vocabulary
from models.stored_items import COLUMNS, StoredItem, item_at, newest, of_items

MOST_LATER = 1_000  # changes that are kept beside the table: to join a million items with them takes half a second


@dataclass(frozen=True, slots=True)
class KnownItems:
    """The items of a store as they are at `revision`.

    Attributes:
        table: items with the columns `COLUMNS`, and `ids` the rows of their ids.
        later: those that were changed since, by id.
    """

    revision: int
    table: pa.Table
    ids: Vocabulary
    later: dict[str, StoredItem]

    @classmethod
    def of(cls, table: pa.Table, revision: int) -> KnownItems:
        """The items of a table, each once."""
        table = table.combine_chunks()
        return cls(revision, table, Vocabulary(table["id"].combine_chunks(), proven=True), {})

    @classmethod
    def none(cls) -> KnownItems:
        """Before anything is known."""
        return cls.of(COLUMNS.empty_table(), 0)

    def __len__(self) -> int:
        return len(self.table) + len(self.later)

    def get(self, id_: str) -> StoredItem | None:
        """What is known of an item; None where nothing is."""
        if (found := self.later.get(id_)) is not None:
            return found
        row = self.ids.row(id_)
        return None if row == len(self.ids) else item_at(self.table, row)

    def all(self) -> pa.Table:
        """All of them, each once."""
        return newest(pa.concat_tables([self.table, of_items(self.later.values())])) if self.later else self.table

    def with_changes(self, changed: pa.Table, revision: int) -> KnownItems:
        """The items as they are at a later revision."""
        if len(self.later) + len(changed) > MOST_LATER:
            return KnownItems.of(newest(pa.concat_tables([self.all(), changed])), revision)
        items = (item_at(changed, row) for row in range(len(changed)))
        return replace(self, revision=revision, later=self.later | {item.id: item for item in items})
