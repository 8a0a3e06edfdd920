"""Restricting who sees a reference, or its cells."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.keys import LOCAL_ADMINISTRATOR
from app.moves import record_event
from app.references import check_known, lock_name
from app.tables import Job, ReferenceVersion
from app.visibility import Visibility, change_restriction


def restrict(session: Session, *, name: str, wanted: Visibility, by: str) -> None:
    """All versions of a name, those to come too. What was mapped before stays its owner's."""
    check_known(session, name, caller=LOCAL_ADMINISTRATOR)
    lock_name(session, name)
    change_restriction(session, name, wanted)
    newest = (
        select(Job)
        .join(ReferenceVersion, ReferenceVersion.job_id == Job.id)
        .where(ReferenceVersion.name == name)
        .order_by(ReferenceVersion.version.desc())
        .limit(1)
    )
    told = {"reference": name, "owners": wanted.owners, "cells": wanted.cells, "by": by}
    record_event(session, session.scalars(newest).one(), "reference.restricted", **told)
    session.commit()
