"""Triggers note what the live error needs: which ratings are new, and what a changed one was before.

They see what the transaction sees that changes a rating, after it waited for its turn, and cost no statement.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# What is known of a pair when it gets a row in `ratings`: nothing, then it is new; or that it was deleted.
NOTE_NEW = """
INSERT INTO ratecast_incoming (revision, "user", item, rating, before)
SELECT
    store.revision, NEW."user", NEW.item, NEW.rating,
    coalesce((SELECT known.revision FROM ratecast_users AS known WHERE known."user" = NEW."user"), 0)
FROM ratecast_store AS store
WHERE NOT EXISTS (
    SELECT 1 FROM ratecast_deletions AS known WHERE known."user" = NEW."user" AND known.item = NEW.item
)
ON CONFLICT DO NOTHING"""
NOTE_AGAIN = """
INSERT INTO ratecast_replaced (revision, "user", item, rating, deleted)
SELECT store.revision, NEW."user", NEW.item, NULL, TRUE FROM ratecast_store AS store
WHERE EXISTS (
    SELECT 1 FROM ratecast_deletions AS known WHERE known."user" = NEW."user" AND known.item = NEW.item
)
ON CONFLICT DO NOTHING"""
NOTE_OLD = """
INSERT INTO ratecast_replaced (revision, "user", item, rating, deleted)
SELECT store.revision, OLD."user", OLD.item, OLD.rating, FALSE FROM ratecast_store AS store WHERE TRUE
ON CONFLICT DO NOTHING"""
NOTE_DELETED = """
INSERT INTO ratecast_replaced (revision, "user", item, rating, deleted)
SELECT store.revision, NEW."user", NEW.item, NULL, FALSE FROM ratecast_store AS store WHERE TRUE
ON CONFLICT DO NOTHING"""

TRIGGERS = (  # name, what fires it, a condition, statements
    ("ratecast_note_new", "AFTER INSERT ON ratings", "", (NOTE_NEW, NOTE_AGAIN)),
    ("ratecast_note_change", "AFTER UPDATE OF rating ON ratings", "WHEN (OLD.rating <> NEW.rating)", (NOTE_OLD,)),
    ("ratecast_note_removal", "AFTER DELETE ON ratings", "", (NOTE_OLD,)),
    ("ratecast_note_deletion", "AFTER INSERT ON ratecast_deletions", "", (NOTE_DELETED,)),
)
# Each statement sees what was committed while the first one waited; one statement that did all would not.
PUT = """
CREATE FUNCTION ratecast_put(users text[], items text[], ratings double precision[], timestamps bigint[])
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    bumped bigint;
BEGIN
    UPDATE ratecast_store SET revision = revision + 1 RETURNING revision INTO bumped;
    INSERT INTO ratings ("user", item, rating, timestamp)
    SELECT * FROM unnest(users, items, ratings, timestamps)
    ON CONFLICT ("user", item) DO UPDATE SET rating = excluded.rating, timestamp = excluded.timestamp;
    INSERT INTO ratecast_users ("user", revision) SELECT DISTINCT changed, bumped FROM unnest(users) AS changed
    ON CONFLICT ("user") DO UPDATE SET revision = excluded.revision;
    RETURN bumped;
END $$"""


def upgrade() -> None:
    op.create_table(
        "ratecast_replaced",
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("rating", sa.Double),
        sa.Column("deleted", sa.Boolean, nullable=False),
    )
    op.create_index("ratecast_replaced_user", "ratecast_replaced", ["user"])
    postgresql = op.get_bind().dialect.name == "postgresql"
    for name, event, condition, statements in TRIGGERS:
        body = ";".join(statements)
        if postgresql:
            run(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$")
            run(f"CREATE TRIGGER {name} {event} FOR EACH ROW {condition} EXECUTE FUNCTION {name}()")
        else:
            run(f"CREATE TRIGGER {name} {event} FOR EACH ROW {condition} BEGIN {body}; END")
    if postgresql:
        run(PUT)


def run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)
