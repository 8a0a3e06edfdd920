"""One watcher per process: tells any number of waiting clients when their job has changed."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from sqlalchemy import select

from app.changes import GLANCE_SECONDS, Changes
from app.database import Database
from app.moves import TERMINAL_STATES
from app.tables import Job

TICK_SECONDS = 0.15
CHUNK = 500
STOP_SECONDS = 2.0
RESTS = 9
"""How many times as long as a look the watcher then rests, where changes come fast."""


@dataclass(frozen=True)
class Seen:
    """What the watcher knows of a job. A job that was deleted is seen as None."""

    revision: int
    terminal: bool


Wanted = Callable[[Seen | None], bool]


def changed_since(revision: int) -> Wanted:
    return lambda seen: seen is None or seen.revision != revision


def finished(seen: Seen | None) -> bool:
    return seen is None or seen.terminal


class Watcher:
    """Waiting costs a future, no database session and no thread; a change, or a tick where one
    cannot tell changes, costs one SELECT."""

    def __init__(
        self,
        read: Callable[[Collection[str]], dict[str, Seen]],
        *,
        changes: Changes | None = None,
        tick: float = TICK_SECONDS,
    ) -> None:
        self._read, self._changes = read, changes
        self._tick = GLANCE_SECONDS if changes and changes.can_tell else tick
        self._is_new = False
        """Whether somebody waits whose job has not been looked at."""
        self._waiting: dict[str, dict[asyncio.Future[None], Wanted]] = defaultdict(dict)
        self._task: asyncio.Task[None] | None = None
        self._limiter = CapacityLimiter(1)

    async def wait(self, job_id: str, wanted: Wanted, *, timeout: float) -> bool:
        """Wait until the job is as wanted; False when the time ran out first."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[job_id][future] = wanted
        self._is_new = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            self._forget(job_id, future)
        return True

    async def stop(self) -> None:
        """Let the SELECT that is under way give its connection back; nobody waits any more."""
        self._waiting.clear()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        if self._changes is not None:
            self._changes.close()

    async def _watch(self) -> None:
        while self._waiting:
            job_ids = list(self._waiting)
            must, self._is_new = self._is_new, False
            began = time.monotonic()
            try:
                seen = await to_thread.run_sync(self._look, job_ids, must, limiter=self._limiter)
            except Exception as error:  # noqa: BLE001 - every waiter must hear of it
                self._fail_all(error)
                return
            if seen is not None:
                for job_id in job_ids:
                    self._wake(job_id, seen.get(job_id))
            rest = min(RESTS * (time.monotonic() - began), TICK_SECONDS)
            await asyncio.sleep(max(self._tick, rest))

    def _look(self, job_ids: Collection[str], must: bool) -> dict[str, Seen] | None:
        """None: nothing has changed since the last look."""
        # Asked first: a change during the look is seen at the next one.
        changed = self._changes is None or self._changes.seen()
        return self._read(job_ids) if changed or must else None

    def _wake(self, job_id: str, seen: Seen | None) -> None:
        for future, wanted in list(self._waiting.get(job_id, {}).items()):
            if not future.done() and wanted(seen):
                future.set_result(None)

    def _fail_all(self, error: Exception) -> None:
        for futures in list(self._waiting.values()):
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _forget(self, job_id: str, future: asyncio.Future[None]) -> None:
        self._waiting[job_id].pop(future, None)
        if not self._waiting[job_id]:
            del self._waiting[job_id]


def revisions_of(database: Database) -> Callable[[Collection[str]], dict[str, Seen]]:
    """Reads the revisions of the watched jobs in one short transaction."""

    def read(job_ids: Collection[str]) -> dict[str, Seen]:
        ids = list(job_ids)
        seen: dict[str, Seen] = {}
        with database.reading() as session:
            for start in range(0, len(ids), CHUNK):
                rows = session.execute(
                    select(Job.id, Job.revision, Job.state).where(
                        Job.id.in_(ids[start : start + CHUNK])
                    )
                )
                for job_id, revision, state in rows:
                    seen[job_id] = Seen(revision, state in TERMINAL_STATES)
        return seen

    return read
