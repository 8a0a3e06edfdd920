"""Runs migrations on the connection that `app.database` hands over."""

from __future__ import annotations

from alembic import context

from app.reference_tables import Alias

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Alias.metadata,  # of all tables: its module imports the others
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
