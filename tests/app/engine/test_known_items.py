"""What is known of a store's items, with many changes and with few: the last change of each item counts."""

from __future__ import annotations

from app.engine.known_items import MOST_LATER, KnownItems
from models.stored_items import StoredItem, of_items, of_rows


def test_the_last_change_of_each_item_counts_whether_few_or_many_are_changed() -> None:
    known, expected = KnownItems.none(), dict[str, StoredItem]()
    for revision, (first, number) in enumerate([(0, 3), (2, MOST_LATER), (1, 2), (MOST_LATER, 2 * MOST_LATER)], 1):
        changed = [
            StoredItem(str(row), f"{row} at {revision}", None, ("Drama",) if row % 2 else (), hidden=row % 3 == 0)
            for row in range(first, first + number)
        ]
        known = known.with_changes(of_items(changed), revision)
        expected |= {item.id: item for item in changed}
        assert known.revision == revision
        assert {id_: known.get(id_) for id_ in [*expected, "x"]} == expected | {"x": None}
        assert sorted(map(str, known.all().to_pylist())) == sorted(map(str, of_items(expected.values()).to_pylist()))


def test_an_item_of_one_change_twice_is_what_it_is_in_the_later_row() -> None:
    changed = of_items([StoredItem("a", "before"), StoredItem("b"), StoredItem("a", "after")])
    assert KnownItems.none().with_changes(changed, 1).get("a") == StoredItem("a", "after")


def test_rows_of_both_databases_are_the_same_items() -> None:
    item = StoredItem("a", None, 1999, ("Drama", "Film-Noir"), None, hidden=True, available_from=5)
    rows = [("a", None, 1999, '["Drama", "Film-Noir"]', None, hidden, 5, None, not hidden) for hidden in (True, 1)]
    assert [of_rows([row]) for row in rows] == [of_items([item])] * 2
