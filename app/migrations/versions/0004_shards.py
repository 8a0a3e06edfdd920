"""Shards of large queries, and mappings that wait for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("waits_for", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "shards",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("mapping_id", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=False),
        sa.Column("prefix", sa.String(255)),
        sa.ForeignKeyConstraint(
            ["mapping_id"], ["mappings.id"], name="fk_shards_mapping_id_mappings"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_shards_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_shards"),
    )
    op.create_index("ix_shards_mapping_id", "shards", ["mapping_id"])
    op.create_index("ix_shards_job_id", "shards", ["job_id"])


def downgrade() -> None:
    op.drop_table("shards")
    op.drop_column("jobs", "waits_for")
