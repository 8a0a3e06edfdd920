"""What an error of the database means for whoever asked for something."""

from __future__ import annotations

import logging

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.problems import DiskFull, MalformedRequest, Problem, ServiceBusy, SimultaneousChange

log = logging.getLogger("cellgraft.database")

AWAY = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""What is raised while the database cannot be reached, or does not answer in time."""
EXPECTED = (*AWAY, DataError, IntegrityError)
"""What `problem_of` has an answer to. Any other error is a mistake of ours."""

_SERIALIZATION_FAILURE, _DEADLOCK, _LOCK_TIMEOUT, _DISK_FULL = "40001", "40P01", "55P03", "53100"


def problem_of(error: Exception) -> Problem:
    """What to answer to one of `EXPECTED`."""
    log.error("the database refused: %s", type(getattr(error, "orig", error)).__name__)
    if isinstance(error, DataError):
        return MalformedRequest(
            "The request holds a text or a number that the database cannot keep.",
            fix="Shorten long texts, and leave out characters that no text is made of.",
        )
    if isinstance(error, IntegrityError):
        return SimultaneousChange(
            "Another request changed the same thing at the same moment; nothing was recorded.",
            fix="Look at how it is now, then send the request again.",
        )
    if _sqlstate(error) == _DISK_FULL or "disk is full" in str(error):
        return DiskFull(
            "The disk is full; nothing was recorded.",
            fix="Free some space, then send the request again.",
        )
    return _busy()


def was_undone(error: DBAPIError) -> bool:
    """Whether the database undid the whole transaction for another's sake: try it again."""
    undone = {_SERIALIZATION_FAILURE, _DEADLOCK}
    return isinstance(error, IntegrityError) or _sqlstate(error) in undone


def waited_for_lock(error: DBAPIError) -> bool:
    """Whether another transaction held for too long what this one needed."""
    return _sqlstate(error) == _LOCK_TIMEOUT


def _sqlstate(error: Exception) -> str | None:
    """The five characters by which PostgreSQL names an error; SQLite has none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _busy() -> Problem:
    # A connection that is lost during COMMIT leaves open whether it happened.
    problem = ServiceBusy(
        "The database did not answer in time; most likely nothing was recorded.",
        fix="Send the request again in a few seconds; the same Idempotency-Key keeps a mapping "
        "from being asked for twice.",
    )
    problem.headers["Retry-After"] = "5"
    return problem
