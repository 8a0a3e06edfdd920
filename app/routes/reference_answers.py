"""A reference version as every route answers with it: its row, job, manifest and model card."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.aliases import aliases_of
from app.keys import Principal
from app.routes.bodies import ReferenceBody
from app.routes.shapes import reference_body
from app.service import Service
from app.standing import successor_of
from app.storage import read_whole
from app.tables import Job, ReferenceVersion
from app.visibility import shows_cells


def reference_answer(
    service: Service,
    session: Session,
    version: ReferenceVersion,
    *,
    caller: Principal,
    versions: list[ReferenceVersion] | None = None,
) -> ReferenceBody:
    built = version.manifest_sha256 is not None
    return reference_body(
        version,
        session.get_one(Job, version.job_id),
        service.genes.manifest(version) if built else None,
        versions=versions,
        cells=shows_cells(session, version.name, caller),
        model_card=_model_card(service, version),
        successor=successor_of(session, version, caller),
        aliases=aliases_of(session, [version.name])[version.name],
    )


def _model_card(service: Service, version: ReferenceVersion) -> str | None:
    if version.bundle_prefix is None:
        return None
    key = f"{version.bundle_prefix}/MODEL_CARD.md"
    try:
        return read_whole(service.storage, key).decode()
    except FileNotFoundError:
        return None
