"""Runs migrations on the connection that `app.database` hands over."""

from __future__ import annotations

from alembic import context

from app.reference_tables import Alias
from app.tables import Table

assert Alias.metadata is Table.metadata, "imported, so that its tables are among them"

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
