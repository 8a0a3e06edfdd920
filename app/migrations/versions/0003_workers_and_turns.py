"""What workers have at hand, and whose turn it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("device", sa.String(255)))
    op.add_column("workers", sa.Column("warm", sa.JSON(none_as_null=True)))
    op.create_table(
        "turns",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("lane", sa.String(16), nullable=False),
        sa.Column("taken_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "lane", name="pk_turns"),
    )


def downgrade() -> None:
    op.drop_table("turns")
    op.drop_column("workers", "warm")
    op.drop_column("workers", "device")
