"""The parent's end of the child: what it has loaded, and when it counts as standing still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.child_process import ChildProcess
from worker.orders import MOST_WARM, MapOrder
from worker.outcomes import WorkerDied

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


def test_the_references_used_last_are_warm(child: ChildProcess, tmp_path: Path) -> None:
    assert child.warm == ()
    digests = [f"digest-{number}" for number in range(MOST_WARM + 2)]
    for digest in [*digests, digests[4]]:
        child.run(order(tmp_path, digest))
    assert child.warm[:3] == (digests[4], digests[-1], digests[-2])
    assert len(child.warm) == MOST_WARM


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
