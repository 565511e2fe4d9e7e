"""What Alembic runs: the migrations on the connection that `app.store.schema` hands over."""

from alembic import context

from app.store.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
