"""Where each bundle lies; idempotency keys are found by their mapping, and go with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reference_versions", sa.Column("bundle_prefix", sa.String(255)))
    op.execute(
        "UPDATE reference_versions SET bundle_prefix = "
        "'references/' || name || '/' || CAST(version AS VARCHAR(20)) "
        "WHERE manifest_sha256 IS NOT NULL"
    )
    op.create_index("ix_idempotency_keys_mapping_id", "idempotency_keys", ["mapping_id"])
    op.execute("DELETE FROM idempotency_keys WHERE mapping_id NOT IN (SELECT id FROM mappings)")


def downgrade() -> None:
    op.drop_index("ix_idempotency_keys_mapping_id", "idempotency_keys")
    op.drop_column("reference_versions", "bundle_prefix")
