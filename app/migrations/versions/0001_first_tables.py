"""The tables of the embedded service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(32)
DIGEST = sa.String(64)
NAME = sa.String(255)
STATE = sa.String(16)
JSON = sa.JSON(none_as_null=True)
INSTANT = sa.DateTime(timezone=True)
COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_jobs()
    _create_events()
    _create_queries()
    _create_reference_versions()
    _create_mappings()
    _create_doors()


def downgrade() -> None:
    for table in (
        "workers",
        "idempotency_keys",
        "api_keys",
        "mappings",
        "reference_versions",
        "queries",
        "events",
        "jobs",
    ):
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", STATE, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("needs_query_id", ID),
        sa.Column("state", STATE, nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("max_attempts", sa.BigInteger(), nullable=False),
        sa.Column("worker", NAME),
        sa.Column("lease_until", sa.Double()),
        sa.Column("heartbeat_at", sa.Double()),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("stage", NAME),
        sa.Column("progress_at", sa.Double()),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("problem", JSON),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_needs_query_id", "jobs", ["needs_query_id"])
    op.create_index("ix_jobs_subject_id", "jobs", ["subject_id"])
    op.create_index("ix_jobs_state_created", "jobs", ["state", "created_at", "id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", COUNTER, autoincrement=True, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", DIGEST, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_job_id", "events", ["job_id"])
    op.create_index("ix_events_subject_id", "events", ["subject_id"])


def _create_queries() -> None:
    op.create_table(
        "queries",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("filename", NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("storage_key", NAME, nullable=False),
        sa.Column("canonical_prefix", NAME),
        sa.Column("options", JSON, nullable=False),
        sa.Column("inspection", JSON),
        sa.Column("external_id", NAME),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("problem", JSON),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_queries_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_queries"),
    )
    op.create_index("ix_queries_external_id", "queries", ["external_id"])
    op.create_index("ix_queries_job_id", "queries", ["job_id"])
    op.create_index("ix_queries_owner_created", "queries", ["owner", "created_at", "id"])


def _create_reference_versions() -> None:
    op.create_table(
        "reference_versions",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("manifest", JSON),
        sa.Column("manifest_sha256", DIGEST),
        sa.Column("options", JSON, nullable=False),
        sa.Column("problem", JSON),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("query_id", ID),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_reference_versions_job_id_jobs"),
        sa.ForeignKeyConstraint(
            ["query_id"],
            ["queries.id"],
            name="fk_reference_versions_query_id_queries",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reference_versions"),
        sa.UniqueConstraint("name", "version", name="uq_reference_versions_name"),
    )
    op.create_index("ix_reference_versions_job_id", "reference_versions", ["job_id"])
    op.create_index("ix_reference_versions_query_id", "reference_versions", ["query_id"])


def _create_mappings() -> None:
    op.create_table(
        "mappings",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("query_id", ID, nullable=False),
        sa.Column("reference_version_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("results", JSON),
        sa.Column("results_prefix", NAME),
        sa.Column("summary", JSON),
        sa.Column("external_id", NAME),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_mappings_job_id_jobs"),
        sa.ForeignKeyConstraint(["query_id"], ["queries.id"], name="fk_mappings_query_id_queries"),
        sa.ForeignKeyConstraint(
            ["reference_version_id"],
            ["reference_versions.id"],
            name="fk_mappings_reference_version_id_reference_versions",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_mappings"),
    )
    op.create_index("ix_mappings_external_id", "mappings", ["external_id"])
    op.create_index("ix_mappings_job_id", "mappings", ["job_id"])
    op.create_index("ix_mappings_owner_created", "mappings", ["owner", "created_at", "id"])
    op.create_index("ix_mappings_query_id", "mappings", ["query_id"])
    op.create_index("ix_mappings_reference_version_id", "mappings", ["reference_version_id"])


def _create_doors() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("secret_sha256", DIGEST, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("last_used_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("request_sha256", DIGEST, nullable=False),
        sa.Column("mapping_id", ID, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
    )
    op.create_table(
        "workers",
        sa.Column("name", NAME, nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
