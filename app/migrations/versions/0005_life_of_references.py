"""The life of a reference version: why it is retired, and what follows it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(32)


def upgrade() -> None:
    op.add_column("reference_versions", sa.Column("state_reason", sa.String(1000)))
    op.add_column("reference_versions", sa.Column("successor_id", ID))


def downgrade() -> None:
    op.drop_column("reference_versions", "successor_id")
    op.drop_column("reference_versions", "state_reason")
