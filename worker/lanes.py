"""A lane of the parent: one process, one job at a time, its lease, its cancel, its end."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from app.database import Database
from app.jobs import (
    Claim,
    cancel_job,
    claim_next,
    fail_job,
    heartbeat,
    release_job,
)
from app.moves import fenced
from app.problems import Problem, StorageAway
from app.shards import fail_torn_mappings
from app.tables import Job
from app.work import describe_work
from worker.attempts import Attempt, fault_of
from worker.held_process import START_SECONDS
from worker.lookout import Lookout
from worker.outcomes import Done, Ended, Failed, Outcome, Stopped
from worker.performing import performer, split_if_large
from worker.workplace import Workplace

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.4
TELL_SECONDS = 0.25
SHORT_LIFE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0
FIRST_REST_SECONDS = 1.0


@dataclass(frozen=True)
class Timing:
    lease_seconds: float = 30.0
    heartbeat_seconds: float = 5.0
    poll_seconds: float = 0.1
    """How often an idle worker looks for work that no bell has told of."""
    tick_seconds: float = 0.1
    """How often the loop turns at least: it looks after what runs and what starts."""
    reap_seconds: float = 5.0
    drain_seconds: float = 5.0
    stall_seconds: float = 1800.0
    """An attempt that does not move on for so long is ended, and counts."""


class Process(Protocol):
    """The zygote or the compute child. Only the main thread starts and stops it."""

    def is_alive(self) -> bool: ...
    def is_ready(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Keeper:
    """Starts a process again when it has died, ever more slowly when it dies young.

    A process that has not said that it is ready gets no job, so a slow or failing start costs no
    job an attempt.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self._started = -LONGEST_PAUSE_SECONDS
        self._pause = 0.0

    def tend(self) -> bool:
        """Whether the process is there to work."""
        age = time.monotonic() - self._started
        if self.process.is_alive():
            if self.process.is_ready():
                return True
            if age > START_SECONDS:
                log.error("a process of the worker was not ready within %.0f s", age)
                self.process.stop()
            return False
        if age < self._pause:
            return False
        died_young = age < self._pause + SHORT_LIFE_SECONDS
        self._pause = min(2 * self._pause or 0.5, LONGEST_PAUSE_SECONDS) if died_young else 0.0
        self._started = time.monotonic()
        self.process.start()
        return False


class Lane:
    """One job at a time of some kinds. All its database writes are the main thread's."""

    def __init__(
        self,
        kinds: Collection[str],
        process: Process,
        *,
        place: Workplace,
        database: Database,
        timing: Timing,
        finished: threading.Event,
        announce: Callable[[], None],
    ) -> None:
        """`announce` is called when the queue may have something new for other workers."""
        self.kinds = kinds
        self.process = process
        self.attempt: Attempt | None = None
        self._keeper = Keeper(process)
        self.lookout = Lookout(
            database,
            kinds,
            poll_seconds=timing.poll_seconds,
            sign_seconds=timing.heartbeat_seconds,
        )
        self._place, self._database, self._timing = place, database, timing
        self._finished, self._announce = finished, announce
        self._cancelled = False
        self._lost_at: float | None = None
        self._beaten = self._watched = 0.0
        self._told: tuple[str | None, float] = (None, 0.0)
        self._pause = self._rests_until = 0.0

    def tick(self, worker: str, only: Collection[str] | None) -> None:
        """Move on by one step: claim, or look after the attempt that runs, or settle it."""
        if self.attempt is None:
            if self._keeper.tend() and time.monotonic() >= self._rests_until:
                self._claim(worker, only)
        elif self.attempt.outcome is None:
            self._watch(self.attempt)
            self._beat(self.attempt)
            self._give_up(self.attempt)
        else:
            self._settle(self.attempt)

    def drain(self) -> None:
        """End now: what is finished is recorded, the rest goes back to the queue, blameless."""
        attempt = self.attempt
        if attempt is not None:
            attempt.stop()
            attempt.join(self._timing.drain_seconds)
        self.process.stop()
        if attempt is None:
            return
        attempt.join(self._timing.drain_seconds)
        if isinstance(attempt.outcome, Done | Failed) or self._cancelled:
            self._settle(attempt)
            return
        with self._database.writing() as session:
            release_job(session, attempt.claim, blameless=True)
        self._leave(attempt)
        self._announce()

    def _claim(self, worker: str, only: Collection[str] | None) -> None:
        if not self.lookout.is_worth_a_claim(worker, only):
            return
        now = time.monotonic()
        with self._database.writing() as session:
            claim = claim_next(
                session,
                worker=worker,
                kinds=self.kinds,
                lease_seconds=self._timing.lease_seconds,
                only=only,
                patient=self.lookout.patient,
            )
            if claim is None:
                return
            log.info("job %s (%s): attempt %s begins", claim.job_id, claim.kind, claim.attempt)
            try:
                work = describe_work(session, claim)
            except Problem as problem:
                fail_job(session, claim, problem)
                return
            split = split_if_large(session, claim, work, shard_cells=self._place.shard_cells)
        if split:
            self._announce()
            return
        self._cancelled, self._lost_at = False, None
        self._told = (None, 0.0)
        self._beaten = self._watched = now
        self.attempt = Attempt(
            claim,
            performer(self._place, work),
            self._finished,
            held_until=now + self._timing.lease_seconds,
        )

    def _watch(self, attempt: Attempt) -> None:
        """See a cancel, or the loss of the job, without writing."""
        now = time.monotonic()
        if now - self._watched < WATCH_SECONDS:
            return
        self._watched = now
        with self._database.reading() as session:
            row = session.execute(
                select(Job.cancel_requested).where(*fenced(attempt.claim), Job.state == "running")
            ).one_or_none()
        self._note(attempt, "lost" if row is None else "cancel" if row[0] else "held")

    def _beat(self, attempt: Attempt) -> None:
        now = time.monotonic()
        stage, progress = attempt.stage, round(attempt.progress, 3)
        moved = (stage, progress) != self._told
        if now - self._beaten < (TELL_SECONDS if moved else self._timing.heartbeat_seconds):
            return
        with self._database.writing() as session:
            answer = heartbeat(
                session,
                attempt.claim,
                lease_seconds=self._timing.lease_seconds,
                stage=stage if moved else None,
                progress=progress if moved else None,
            )
        self._beaten, self._told = now, (stage, progress)
        attempt.held_until = now + self._timing.lease_seconds
        self._note(attempt, answer)

    def _note(self, attempt: Attempt, answer: str) -> None:
        if answer == "held":
            return
        if answer == "lost" and self._lost_at is None:
            self._lost_at = time.monotonic()
        self._cancelled = self._cancelled or answer == "cancel"
        attempt.stop()

    def _give_up(self, attempt: Attempt) -> None:
        """Leave an attempt behind that has lost its job and does not end: it hangs."""
        if self._lost_at is None or time.monotonic() - self._lost_at < self._timing.lease_seconds:
            return
        log.error("job %s: an attempt that hangs is left behind", attempt.claim.job_id)
        self.process.stop()
        self._leave(attempt)

    def _settle(self, attempt: Attempt) -> None:
        """Record how the attempt ended. Safe to repeat when the database was away."""
        outcome = attempt.outcome
        with self._database.writing() as session:
            if isinstance(outcome, Done):
                self._publish(session, attempt.claim, outcome)
            elif self._lost_at is not None:
                log.warning("job %s was lost to another worker", attempt.claim.job_id)
            elif isinstance(outcome, Failed):
                fail_job(session, attempt.claim, outcome.problem)
                fail_torn_mappings(session)
            elif self._cancelled:
                cancel_job(session, attempt.claim)
            else:
                log.warning("job %s goes back to the queue: %s", attempt.claim.job_id, outcome)
                # Nobody asked for a stop, so the lease ran out while the database was away.
                away = Stopped | StorageAway
                out_of_reach = isinstance(outcome, Ended) and isinstance(outcome.because, away)
                release_job(session, attempt.claim, blameless=out_of_reach)
        self._rest(outcome)
        self._leave(attempt)
        # A mapping may have waited for this check, and a job given back waits again.
        self._announce()

    def _rest(self, outcome: Outcome | None) -> None:
        """Claim no job for a while, ever longer, when the store was away for the last one."""
        if isinstance(outcome, Ended) and isinstance(outcome.because, StorageAway):
            self._pause = min(2 * self._pause or FIRST_REST_SECONDS, LONGEST_PAUSE_SECONDS)
        else:
            self._pause = 0.0
        self._rests_until = time.monotonic() + self._pause

    def _publish(self, session: Session, claim: Claim, done: Done) -> None:
        try:
            if done.record(session, claim) or self._is_recorded(session, claim):
                return
            log.warning("job %s: the results came too late and are removed", claim.job_id)
        except DataError:  # another attempt would end in the same way
            session.rollback()
            fail_job(session, claim, fault_of(claim).problem)
        if done.prefix is not None:
            self._place.storage.delete(done.prefix)

    def _is_recorded(self, session: Session, claim: Claim) -> bool:
        """Whether an earlier try, whose answer was lost with the connection, did record it."""
        found = select(Job.id).where(*fenced(claim), Job.state == "succeeded")
        return session.scalar(found) is not None

    def _leave(self, attempt: Attempt) -> None:
        shutil.rmtree(self._place.scratch(attempt.claim), ignore_errors=True)
        log.info("job %s: attempt ended after %.2f s", attempt.claim.job_id, attempt.seconds)
        self.attempt = None
        self.lookout.hear()
