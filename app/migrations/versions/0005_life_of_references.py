"""The life of references: retired versions with a reason and a successor, and aliases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(32)
NAME = sa.String(255)
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("reference_versions", sa.Column("state_reason", sa.String(1000)))
    op.add_column("reference_versions", sa.Column("successor_id", ID))
    op.add_column("mappings", sa.Column("reference_alias", NAME))
    op.create_table(
        "reference_aliases",
        sa.Column("reference", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["reference_versions.id"],
            name="fk_reference_aliases_version_id_reference_versions",
        ),
        sa.PrimaryKeyConstraint("reference", "alias", name="pk_reference_aliases"),
    )
    op.create_index("ix_reference_aliases_version_id", "reference_aliases", ["version_id"])


def downgrade() -> None:
    op.drop_table("reference_aliases")
    op.drop_column("mappings", "reference_alias")
    op.drop_column("reference_versions", "successor_id")
    op.drop_column("reference_versions", "state_reason")
