"""How an attempt at a job can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.jobs import Claim
from app.problems import Problem, StorageAway


class Stopped(Exception):
    """The work ended because the parent asked it to."""


class WorkerDied(Exception):
    """A process of the worker died; the job is not to blame and may be tried again."""


@dataclass(frozen=True)
class Done:
    """The files are in the store; `record` publishes them with the fenced row update."""

    record: Callable[[Session, Claim], bool]
    prefix: str | None
    """Deleted when the fence no longer holds: nobody else will ever point at it."""


@dataclass(frozen=True)
class Failed:
    problem: Problem


@dataclass(frozen=True)
class Ended:
    """Stopped on request, lost with its process, or without a store for too long."""

    because: Stopped | WorkerDied | StorageAway


Outcome = Done | Failed | Ended
