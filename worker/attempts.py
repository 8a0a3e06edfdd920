"""One attempt at a job, in a thread that waits for a process, publishes, and never forks."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable

from app.jobs import Claim
from app.problems import InternalFault, Problem, StorageAway
from worker.outcomes import Ended, Failed, Outcome, Stopped, WorkerDied
from worker.workplace import disk_full

log = logging.getLogger(__name__)


class Attempt:
    """Runs `perform` beside the parent's loop, which reads `stage`, `progress` and `outcome`.

    The loop moves `held_until` (monotonic seconds) on with every lease. The attempt looks at the
    clock itself: a loop that cannot reach the database may be waiting for just that.
    """

    def __init__(
        self,
        claim: Claim,
        perform: Callable[[Attempt], Outcome],
        finished: threading.Event,
        *,
        held_until: float,
    ) -> None:
        self.claim = claim
        self.held_until = held_until
        self.stage: str | None = None
        self.progress = 0.0
        self.outcome: Outcome | None = None
        self._perform = perform
        self._finished = finished
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=claim.job_id, daemon=True)
        self._started = time.monotonic()
        self._thread.start()

    def report(self, stage: str, progress: float) -> None:
        self.stage, self.progress = stage, progress

    def stop(self) -> None:
        """Ask the work to end; `outcome` comes within the child's grace, unless it publishes."""
        self._stop.set()

    def stopped(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self.held_until

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def _run(self) -> None:
        outcome = self._judge()
        self.outcome = outcome
        self._finished.set()

    def _judge(self) -> Outcome:
        try:
            return self._perform(self)
        except (Stopped, WorkerDied, StorageAway) as ended:
            return Ended(ended)
        except Problem as problem:
            return Failed(problem)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return Failed(disk_full())
            return fault_of(self.claim)
        except Exception:  # noqa: BLE001 - logged by `fault_of`; the parent's loop must live on
            return fault_of(self.claim)


def fault_of(claim: Claim) -> Failed:
    """What to say of an exception that nobody expected; the log gets all of it."""
    log.exception("job %s (%s), attempt %s, failed", claim.job_id, claim.kind, claim.attempt)
    return Failed(
        InternalFault(
            "The worker failed in a way that is the service's fault.",
            fix="Send the request again; if it fails again, show the worker's log to whoever "
            "runs the service.",
        )
    )
