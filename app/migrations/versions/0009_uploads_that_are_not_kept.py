"""Uploads that are removed once they are checked, as their sender asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME = sa.String(255)


def upgrade() -> None:
    op.add_column(
        "queries",
        sa.Column("keeps_upload", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    with op.batch_alter_table("queries") as queries:
        queries.alter_column("storage_key", existing_type=NAME, nullable=True)
    op.create_index("ix_queries_keeps_upload", "queries", ["keeps_upload", "storage_key"])


def downgrade() -> None:
    op.drop_index("ix_queries_keeps_upload", "queries")
    op.execute("UPDATE queries SET storage_key = '' WHERE storage_key IS NULL")
    with op.batch_alter_table("queries") as queries:
        queries.alter_column("storage_key", existing_type=NAME, nullable=False)
        queries.drop_column("keeps_upload")
