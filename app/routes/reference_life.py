"""What becomes of reference versions: deprecated, withdrawn, named by an alias, seen by some."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from app.aliases import remove_alias, set_alias
from app.keys import Principal
from app.problems import (
    Forbidden,
    MalformedRequest,
    ReferenceNotReady,
    UnknownReference,
    UnsupportedMediaType,
    WrongReferenceState,
)
from app.references import check_known, find_version
from app.restrictions import restrict
from app.retirement import Retired, retire_version
from app.routes.access import Administrator, Served
from app.routes.answers import problems
from app.routes.bodies import ReferenceBody
from app.routes.reference_answers import reference_answer
from app.routes.reference_bodies import AliasBody, AliasIn, RetireIn, VisibilityBody, VisibilityIn
from app.service import Service
from app.tables import ReferenceVersion
from app.visibility import Visibility, visibility_of

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
    return _retire(service, caller, name, version, "deprecated", body)


@router.post(
    "/{name}/versions/{version}/withdraw", summary="Withdraw a version", responses=RETIRING
)
def withdraw(
    service: Served, caller: Administrator, name: str, version: int, body: RetireIn
) -> ReferenceBody:
    """New mappings are refused. Results stay, and mappings accepted before end as they began."""
    return _retire(service, caller, name, version, "withdrawn", body)


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
    with service.database.reading() as session:
        named = find_version(session, name, body.version, caller=caller)
    here = f"/v1/references/{name}"
    return AliasBody(
        reference=name,
        version=named.version,
        licence=named.licence,
        citation=named.citation,
        alias=alias,
        previous=previous,
        links={"reference": here, "version": f"{here}/versions/{named.version}"},
    )


@router.delete(
    "/{name}/aliases/{alias}",
    status_code=204,
    summary="Take an alias away",
    responses=problems(Forbidden, UnknownReference),
)
def delete_alias(service: Served, caller: Administrator, name: str, alias: str) -> None:
    service.database.write(partial(remove_alias, name=name, alias=alias, by=caller.owner))


@router.get(
    "/{name}/visibility",
    summary="Who sees a reference",
    responses=problems(Forbidden, UnknownReference),
)
def get_visibility(service: Served, caller: Administrator, name: str) -> VisibilityBody:
    with service.database.reading() as session:
        check_known(session, name, caller=caller)
        return _visibility(name, visibility_of(session, name))


@router.put(
    "/{name}/visibility",
    summary="Say who sees a reference, and who gets its cells",
    responses=problems(Forbidden, UnknownReference, MalformedRequest, UnsupportedMediaType),
)
def put_visibility(
    service: Served, caller: Administrator, name: str, body: VisibilityIn
) -> VisibilityBody:
    """Of all its versions. For everybody else it answers as what does not exist."""
    wanted = Visibility(body.owners, body.cells)
    service.database.write(partial(restrict, name=name, wanted=wanted, by=caller.owner))
    return _visibility(name, wanted)


def _visibility(name: str, found: Visibility) -> VisibilityBody:
    return VisibilityBody(
        reference=name,
        owners=found.owners,
        cells=found.cells,
        links={"reference": f"/v1/references/{name}"},
    )


def _retire(
    service: Service, caller: Principal, name: str, version: int, to: Retired, body: RetireIn
) -> ReferenceBody:
    retired = service.database.write(
        partial(
            retire_version,
            name=name,
            version=version,
            to=to,
            reason=body.reason,
            successor=body.successor,
            by=caller.owner,
        )
    )
    with service.database.reading() as session:
        return reference_answer(
            service, session, session.get_one(ReferenceVersion, retired.id), caller=caller
        )
