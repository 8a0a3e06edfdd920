"""What becomes of reference versions: deprecated, withdrawn, named by an alias."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from app.aliases import remove_alias, set_alias
from app.problems import (
    Forbidden,
    MalformedRequest,
    ReferenceNotReady,
    UnknownReference,
    UnsupportedMediaType,
    WrongReferenceState,
)
from app.retirement import Retired, retire_version
from app.routes.access import Administrator, Served
from app.routes.answers import problems
from app.routes.bodies import ReferenceBody
from app.routes.reference_answers import reference_answer
from app.routes.reference_bodies import AliasBody, AliasIn, RetireIn
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


@router.put(
    "/{name}/aliases/{alias}",
    summary="Let an alias name a version",
    responses=problems(
        Forbidden, UnknownReference, ReferenceNotReady, MalformedRequest, UnsupportedMediaType
    ),
)
def put_alias(
    service: Served, caller: Administrator, name: str, alias: str, body: AliasIn
) -> AliasBody:
    """Requests for NAME@ALIAS get this version from now on; earlier mappings keep theirs."""
    previous = service.database.write(
        partial(set_alias, name=name, alias=alias, version=body.version, by=caller.owner)
    )
    here = f"/v1/references/{name}"
    return AliasBody(
        reference=name,
        alias=alias,
        version=body.version,
        previous=previous,
        links={"self": f"{here}/aliases/{alias}", "version": f"{here}/versions/{body.version}"},
    )


@router.delete(
    "/{name}/aliases/{alias}",
    status_code=204,
    summary="Take an alias away",
    responses=problems(Forbidden, UnknownReference),
)
def delete_alias(service: Served, caller: Administrator, name: str, alias: str) -> None:
    service.database.write(partial(remove_alias, name=name, alias=alias, by=caller.owner))


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
