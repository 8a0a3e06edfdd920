"""The conversation with the compute child, without a parent around it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.child import Reporter
from worker.child_process import ChildProcess
from worker.lines import Closed, Lines
from worker.orders import BuildOrder, Cancelled, MapOrder, as_json, from_json
from worker.outcomes import WorkerDied

MAP = MapOrder(
    "m", Path("/c"), Path("/b"), "0" * 64, Path("/o"), {"batch_key": ["a"]}, {}, 2, "cpu"
)
BUILD = BuildOrder("n", 1, Path("/c"), Path("/o"), {"seed": 0}, {"filename": "f"}, 2, "cpu")


@pytest.fixture
def ends() -> Iterator[tuple[Lines, Lines]]:
    left, right = (Lines(end) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize("order", [MAP, BUILD])
def test_orders_survive_the_journey(
    order: MapOrder | BuildOrder, ends: tuple[Lines, Lines]
) -> None:
    ends[0].send(as_json(order))
    message = ends[1].receive(1)
    assert message is not None
    assert from_json(message) == order


def test_messages_keep_their_borders(ends: tuple[Lines, Lines]) -> None:
    for number in range(3):
        ends[0].send({"n": number, "text": "line\nbreak"})
    assert [ends[1].receive(1) for _ in range(3)] == [
        {"n": number, "text": "line\nbreak"} for number in range(3)
    ]
    assert ends[1].receive(0) is None


def test_the_other_end_is_gone(ends: tuple[Lines, Lines]) -> None:
    ends[0].close()
    with pytest.raises(Closed):
        ends[1].receive(1)


def test_a_cancel_for_another_order_is_ignored(ends: tuple[Lines, Lines]) -> None:
    report = Reporter(ends[1], 2)
    ends[0].send({"cancel": 1})
    report("training", 0.5)
    assert ends[0].receive(1) == {"stage": "training", "progress": 0.5}
    ends[0].send({"cancel": 2})
    with pytest.raises(Cancelled):
        report("training", 0.6)


def test_progress_is_not_told_more_often_than_useful(ends: tuple[Lines, Lines]) -> None:
    report = Reporter(ends[1], 1)
    for step in range(1000):
        report("training", step / 1000)
    told = 0
    while ends[0].receive(0) is not None:
        told += 1
    assert 1 <= told <= 20


def test_a_child_that_shows_no_progress_is_killed(tmp_path: Path) -> None:
    child = ChildProcess(threads=1, runs="tests.worker.processes.fake_runs", stall_seconds=1.5)
    order = BuildOrder("n", 1, tmp_path, tmp_path, {"do": "hang"}, {}, 1, "cpu")
    child.start()
    try:
        with pytest.raises(WorkerDied, match="no progress"):
            child.run(order)
        assert not child.is_alive()
    finally:
        child.stop()
