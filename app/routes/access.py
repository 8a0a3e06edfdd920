"""What routes ask for by type: the service, and a caller who may do this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, cast

from fastapi import Depends, Request

from app.keys import Principal, Scope
from app.service import Service


async def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def _may(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    async def check(request: Request) -> Principal:
        principal = cast(Principal, request.state.principal)  # set by `app.doors`
        principal.require(scope)
        return principal

    return check


Served = Annotated[Service, Depends(_service)]
Reader = Annotated[Principal, Depends(_may("read"))]
Submitter = Annotated[Principal, Depends(_may("submit"))]
Administrator = Annotated[Principal, Depends(_may("admin"))]
