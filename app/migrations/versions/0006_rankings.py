"""Rankings of references for a query."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(32)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "rankings",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("query_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("version_ids", JSON, nullable=False),
        sa.Column("items", JSON),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["query_id"], ["queries.id"], name="fk_rankings_query_id_queries"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_rankings_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_rankings"),
        sa.UniqueConstraint("query_id", name="uq_rankings_query_id"),
    )
    op.create_index("ix_rankings_job_id", "rankings", ["job_id"])


def downgrade() -> None:
    op.drop_table("rankings")
