"""The supervising parent: one loop and two lanes, without torch; it claims, watches, records."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from sqlalchemy import select

from app.bell import Bell, PollingBell
from app.changes import GLANCE_SECONDS, Changes
from app.database import Database
from app.database_errors import AWAY
from app.jobs import reap
from app.shards import fail_torn_mappings, forget_files, shards_prefix, spent_shards
from app.spent_uploads import forget_upload, spent_uploads
from app.tables import Job, JobKind
from app.turns import waiting
from app.workers import dismiss_worker, register_worker
from worker.lanes import Lane, Process, Timing
from worker.workplace import Workplace

log = logging.getLogger(__name__)

SCRATCH_NAME = re.compile(r"^([0-9a-f]{32})-([0-9]+)$")
LONGEST_BACK_OFF_SECONDS = 5.0


class Parent:
    """Runs until it is asked to stop. `only` restricts it to these jobs."""

    def __init__(
        self,
        database: Database,
        place: Workplace,
        timing: Timing,
        *,
        bell: Bell | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.only = only
        self._database, self._place, self._timing = database, place, timing
        self._bell = bell or PollingBell()
        self._told: tuple[str | None, Sequence[str]] | None = None
        self._stopping = False
        self._swept = False
        self._finished = threading.Event()
        self._changes = Changes(database)
        self._turn_seconds = min(timing.poll_seconds, timing.tick_seconds)
        self._reaped = -timing.reap_seconds
        self.lanes = [
            self._lane({"check"}, place.zygote),
            self._lane({"map", "shard", "rank", "build"}, place.child),
        ]

    def stop(self) -> None:
        """End after the present step. Sets a flag only: safe in a signal handler."""
        self._stopping = True

    def hear(self, kind: JobKind) -> None:
        """Look for a job of this kind now. Any thread may say so; the loop does the rest."""
        self._look_again(lane for lane in self.lanes if kind in lane.kinds)
        self._finished.set()

    @staticmethod
    def _look_again(lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            lane.lookout.hear()

    def run(
        self,
        until: Callable[[], bool] = lambda: False,
        at_each_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Work until `stop` or `until`, then give back what is not finished."""
        back_off = 0.0
        try:
            while not self._stopping:
                at_each_turn()
                try:
                    if until():
                        break
                    self._tick()
                    back_off = 0.0
                except AWAY as error:
                    back_off = min(2 * back_off or 0.25, LONGEST_BACK_OFF_SECONDS)
                    said = getattr(error, "orig", error)
                    log.warning("the database is away, again in %.2f s: %s", back_off, said)
                self._rest(max(back_off, self._turn_seconds), glance=not back_off)
        finally:
            self._drain()
            self._changes.close()

    def _rest(self, seconds: float, *, glance: bool) -> None:
        """Until an attempt ends, a bell rings, or somebody writes to a database that tells."""
        until = time.monotonic() + seconds
        step = GLANCE_SECONDS if glance and self._changes.can_tell else seconds
        while (left := until - time.monotonic()) > 0 and not self._finished.wait(min(step, left)):
            if self._changes.can_tell and self._changes.seen():
                self._look_again(self.lanes)
                break
        self._finished.clear()

    def _tick(self) -> None:
        if not self._swept:
            self._sweep()
        self._register()
        for lane in self.lanes:
            lane.tick(self.name, self.only)
        if time.monotonic() - self._reaped >= self._timing.reap_seconds:
            self._reaped = time.monotonic()
            with self._database.writing() as session:
                # What a killed worker left behind is nobody's only from here on.
                reaped = reap(session, stall_seconds=self._timing.stall_seconds)
                self._swept = reaped == 0 and self._swept
                fail_torn_mappings(session)
            self._remove_spent_shards()
            self._remove_spent_uploads()
            self._announce()

    def _drain(self) -> None:
        for lane in self.lanes:
            try:
                lane.drain()
            except AWAY:
                # The lease runs out, and a reaper gives the job to another worker.
                log.exception("a job could not be given back")
                lane.process.stop()
        with suppress(*AWAY), self._database.writing() as session:
            dismiss_worker(session, self.name)

    def _register(self) -> None:
        """Tell what computes and what is loaded, when that has changed."""
        asked, child = self._place.device, self._place.child
        # This process has no torch to ask; until the child is ready nobody knows.
        here = (child.automatic_device if asked == "auto" else asked, sorted(child.warm))
        if here == self._told:
            return
        with self._database.writing() as session:
            register_worker(
                session,
                self.name,
                device=here[0],
                warm=here[1],
                sandbox=self._place.zygote.layers.as_dict(),
            )
        self._told = here

    def _announce(self) -> None:
        """Ring for what waits: a ring may have been lost, or came before the job could start."""
        with self._database.reading() as session:
            jobs = waiting(session)
        for job_id, kind in jobs:
            self._bell.ring(job_id, kind)
            self.hear(kind)  # a lane of this worker may be free

    def _remove_spent_shards(self) -> None:
        """However a mapping ended, what was read for it is of no more use."""
        with self._database.reading() as session:
            spent = spent_shards(session)
        for mapping_id in spent:
            self._place.storage.delete(shards_prefix(mapping_id))
            with self._database.writing() as session:
                forget_files(session, mapping_id)

    def _remove_spent_uploads(self) -> None:
        """Checked: of a file that is not to be kept, what was asked for is in the store."""
        with self._database.reading() as session:
            spent = spent_uploads(session)
        for query_id, keys in spent.items():
            for key in keys:
                self._place.storage.delete(key)
            with self._database.writing() as session:
                forget_upload(session, query_id)

    def _sweep(self) -> None:
        """Remove the scratch of attempts that nobody works on any more."""
        self._place.staging.mkdir(parents=True, exist_ok=True)
        found = {
            (match[1], int(match[2])): path
            for path in self._place.staging.iterdir()
            if (match := SCRATCH_NAME.match(path.name))
        }
        with self._database.reading() as session:
            running = session.execute(select(Job.id, Job.attempt).where(Job.state == "running"))
            alive = {(job_id, attempt) for job_id, attempt in running}
        for key in found.keys() - alive:
            shutil.rmtree(found[key], ignore_errors=True)
        self._swept = True

    def _lane(self, kinds: set[str], process: Process) -> Lane:
        return Lane(
            kinds,
            process,
            place=self._place,
            database=self._database,
            timing=self._timing,
            finished=self._finished,
            announce=self._announce,
        )
