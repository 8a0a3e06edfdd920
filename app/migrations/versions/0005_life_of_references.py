"""The life of references: licences, retirement, aliases, who sees what, golden queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(32)
NAME = sa.String(255)
JSON = sa.JSON(none_as_null=True)
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("reference_versions", sa.Column("licence", NAME))
    op.add_column("reference_versions", sa.Column("citation", sa.Text()))
    op.add_column("reference_versions", sa.Column("surgery_has_effect", sa.Boolean()))
    _copy_terms()
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
    op.create_table(
        "reference_restrictions",
        sa.Column("reference", NAME, nullable=False),
        sa.Column("owners", JSON),
        sa.Column("cells", sa.String(16), nullable=False),
        sa.Column("cells_owners", JSON),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("reference", name="pk_reference_restrictions"),
    )
    _create_golden_queries()


def _create_golden_queries() -> None:
    op.create_table(
        "golden_queries",
        sa.Column("id", ID, nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("filename", NAME, nullable=False),
        sa.Column("storage_key", NAME, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("expect", sa.String(16), nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("min_agreement", sa.Double()),
        sa.Column("problem_type", NAME),
        sa.Column("latents", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["reference_versions.id"],
            name="fk_golden_queries_version_id_reference_versions",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_golden_queries"),
    )
    op.create_index("ix_golden_queries_version_id", "golden_queries", ["version_id"])


def _copy_terms() -> None:
    """From the manifests of the versions that are there."""
    versions = sa.table(
        "reference_versions",
        sa.column("id", ID),
        sa.column("manifest", JSON),
        sa.column("licence", NAME),
        sa.column("citation", sa.Text()),
        sa.column("surgery_has_effect", sa.Boolean()),
    )
    connection = op.get_bind()
    for version_id in connection.scalars(sa.select(versions.c.id)).all():
        this = versions.c.id == version_id
        manifest = connection.scalar(sa.select(versions.c.manifest).where(this))
        if manifest:
            terms = {
                # Nobody had checked its length: the manifest has all of it.
                "licence": (manifest.get("licence") or "")[:255] or None,
                "citation": manifest.get("citation"),
                "surgery_has_effect": manifest["architecture"].get("encode_covariates", True),
            }
            connection.execute(sa.update(versions).where(this).values(**terms))


def downgrade() -> None:
    op.drop_table("golden_queries")
    op.drop_table("reference_restrictions")
    op.drop_table("reference_aliases")
    op.drop_column("mappings", "reference_alias")
    op.drop_column("reference_versions", "successor_id")
    for column in ("state_reason", "surgery_has_effect", "citation", "licence"):
        op.drop_column("reference_versions", column)
