"""The parent's end of the child: what it has loaded, and when it counts as standing still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.problems import DamagedReference
from worker.child_process import ChildProcess
from worker.orders import MapOrder
from worker.outcomes import Stopped, WorkerDied

RUNS = "tests.worker.processes.still_runs"


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess(threads=1, runs=RUNS, stall_seconds=1, grace_seconds=0.5)
    made.start()
    yield made
    made.stop()


def order(folder: Path, digest: str, **options: str) -> MapOrder:
    return MapOrder(
        mapping_id="m",
        canonical=folder,
        bundle=folder,
        manifest_sha256=digest,
        out=folder,
        options=options,
        query_facts={},
        threads=1,
        device="cpu",
    )


def test_the_child_tells_what_is_warm_however_an_order_ends(
    child: ChildProcess, tmp_path: Path
) -> None:
    assert child.warm == ()
    child.run(order(tmp_path, "one"))
    child.run(order(tmp_path, "two"))
    assert child.warm == ("two", "one")
    with pytest.raises(DamagedReference):
        child.run(order(tmp_path, "three", do="refuse"))
    assert child.warm == ("three", "two", "one")
    began = time.monotonic()
    still = order(tmp_path, "four", do="still")
    with pytest.raises(Stopped):
        child.run(still, stopped=lambda: time.monotonic() - began > 0.3)
    assert child.warm[:2] == ("four", "three")
    child.run(order(tmp_path, "five", do="forget"))
    assert child.warm == ("five",)


def test_a_new_child_has_nothing_warm(child: ChildProcess, tmp_path: Path) -> None:
    child.run(order(tmp_path, "digest"))
    assert child.warm == ("digest",)
    child.kill()
    child.start()
    assert child.warm == ()


def test_to_say_the_same_again_is_no_progress(child: ChildProcess, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(WorkerDied, match="no progress"):
        child.run(order(tmp_path, "digest", do="still"))
    assert 1 < time.monotonic() - began < 20
    assert not child.is_alive()
