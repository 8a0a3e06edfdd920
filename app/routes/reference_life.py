"""What becomes of reference versions: deprecated, withdrawn."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from app.problems import (
    Forbidden,
    MalformedRequest,
    UnknownReference,
    UnsupportedMediaType,
    WrongReferenceState,
)
from app.retirement import Retired, retire_version
from app.routes.access import Administrator, Served
from app.routes.answers import problems
from app.routes.bodies import ReferenceBody
from app.routes.reference_answers import reference_answer
from app.routes.reference_bodies import RetireIn
from app.service import Service
from app.tables import ReferenceVersion

router = APIRouter(prefix="/references", tags=["references"])

RETIRING = problems(
    Forbidden, UnknownReference, WrongReferenceState, MalformedRequest, UnsupportedMediaType
)


@router.post(
    "/{name}/versions/{version}/deprecate", summary="Deprecate a version", responses=RETIRING
)
def deprecate(
    service: Served, caller: Administrator, name: str, version: int, body: RetireIn
) -> ReferenceBody:
    """It still maps, is the default no more, and every answer about it carries the reason."""
    return _retire(service, caller.owner, name, version, "deprecated", body)


@router.post(
    "/{name}/versions/{version}/withdraw", summary="Withdraw a version", responses=RETIRING
)
def withdraw(
    service: Served, caller: Administrator, name: str, version: int, body: RetireIn
) -> ReferenceBody:
    """New mappings are refused. Results stay, and mappings accepted before end as they began."""
    return _retire(service, caller.owner, name, version, "withdrawn", body)


def _retire(
    service: Service, by: str, name: str, version: int, to: Retired, body: RetireIn
) -> ReferenceBody:
    retired = service.database.write(
        partial(
            retire_version,
            name=name,
            version=version,
            to=to,
            reason=body.reason,
            successor=body.successor,
            by=by,
        )
    )
    with service.database.reading() as session:
        return reference_answer(service, session, session.get_one(ReferenceVersion, retired.id))
