"""A process gets work once it has said that it is ready; until then no job pays for it."""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.database import Database
from app.tables import Job
from tests.worker.intake import files
from worker import checking, lanes
from worker.checking import CheckOrder
from worker.child_process import ChildProcess
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import Limits
from worker.lanes import Keeper
from worker.outcomes import WorkerDied
from worker.parent import Parent
from worker.workplace import Workplace
from worker.zygote_process import ZygoteProcess

from .conftest import TIMING, Running, Work


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url  # which database it is makes no difference to a process that starts


def test_a_zygote_that_starts_slowly_costs_no_attempt(
    work: Work,
    database: Database,
    place: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checking, "EXIT_SECONDS", 0.5)
    slow = ZygoteProcess("tests.worker.processes.slow_zygote")
    running = Running(Parent(database, dataclasses.replace(place, zygote=slow), TIMING))
    try:
        query = work.upload(files.write_h5ad(tmp_path / "sound.h5ad").read_bytes())
        assert work.finish(query.job_id, "succeeded").attempt == 1
    finally:
        running.stop()


def untouched(work: Work, job_id: str, seconds: float) -> Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = work.job(job_id)
        assert (job.state, job.attempt) == ("queued", 0)
        time.sleep(0.05)
    return job


@pytest.mark.parametrize("kind", ["check", "build"])
def test_a_process_that_cannot_start_costs_no_attempt(
    kind: str, work: Work, database: Database, place: Workplace
) -> None:
    nowhere = "tests.worker.processes.nowhere"
    zygote, child = ZygoteProcess(nowhere), ChildProcess(threads=1, runs=nowhere)
    job_id = work.upload(b"anything").job_id if kind == "check" else work.build(do="finish").job_id
    broken = dataclasses.replace(place, zygote=zygote, child=child)
    running = Running(Parent(database, broken, TIMING))
    try:
        assert untouched(work, job_id, 2.0).attempt == 0
        assert not zygote.is_ready()
        assert not child.is_ready()
    finally:
        running.stop()


def test_a_process_that_never_gets_ready_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleepy:
        starts = stops = 0

        def is_alive(self) -> bool:
            return self.starts > self.stops

        def is_ready(self) -> bool:
            return False

        def start(self) -> None:
            self.starts += 1

        def stop(self) -> None:
            self.stops += 1

    monkeypatch.setattr(lanes, "START_SECONDS", 0.05)
    keeper = Keeper(process := Sleepy())
    deadline = time.monotonic() + 5
    while process.starts < 2 and time.monotonic() < deadline:
        assert not keeper.tend()
        time.sleep(0.01)
    assert (process.starts, process.stops) == (2, 1)


def test_a_zygote_that_is_not_ready_in_time_checks_nothing(tmp_path: Path) -> None:
    zygote = ZygoteProcess("tests.worker.processes.slow_zygote")
    zygote.start()
    try:
        assert not zygote.is_ready()
        assert not zygote.wait_until_ready(0.2)
        assert zygote.wait_until_ready()
        assert zygote.is_ready()
    finally:
        zygote.stop()
    assert not zygote.is_ready()
    with pytest.raises(WorkerDied):
        zygote.check(order(tmp_path / "q.h5ad", tmp_path / "out"))


def order(path: Path, folder: Path) -> CheckOrder:
    return CheckOrder(path, folder, {}, 20.0, Limits())


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the next folder fail as on a full disk; the one after it is sound."""
    made = CanonicalFolder.__init__

    def fail(self: CanonicalFolder, *_: object, **__: object) -> None:
        monkeypatch.setattr(CanonicalFolder, "__init__", made)
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(CanonicalFolder, "__init__", fail)


def test_a_full_disk_leaves_no_answer_behind(full_disk: Callable[[], None], tmp_path: Path) -> None:
    zygote = ZygoteProcess()
    zygote.start()
    try:
        bad = tmp_path / "bad.h5ad"
        bad.write_bytes(b"not an h5ad at all")
        full_disk()
        with pytest.raises(OSError, match="No space left"):
            zygote.check(order(bad, tmp_path / "1"))
        sound = files.write_h5ad(tmp_path / "sound.h5ad")
        assert zygote.check(order(sound, tmp_path / "2"))["n_cells"] == files.CELLS
        assert zygote._socket is not None
        zygote._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            zygote._socket.recv(1024)
    finally:
        zygote.stop()
