"""The table of workers names the device that computes, as the compute child knows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import select

from app.database import Database
from app.tables import Worker
from worker.child_process import ChildProcess
from worker.parent import Parent
from worker.workplace import Workplace

from .conftest import TIMING, Running
from .fake_runs import DEVICE


@pytest.mark.parametrize(("asked", "registered"), [("auto", DEVICE), ("cpu", "cpu")])
def test_a_worker_registers_the_device_that_computes(
    database: Database, place: Workplace, asked: str, registered: str
) -> None:
    with at_work(database, replace(place, device=asked)) as parent:
        deadline = time.monotonic() + 20
        while device_of(database, parent) is None:
            assert time.monotonic() < deadline, "no device was registered"
            time.sleep(0.02)
        assert device_of(database, parent) == registered


def test_auto_is_what_torch_finds_on_this_machine() -> None:
    import torch

    child = ChildProcess(threads=1)
    assert child.automatic_device is None
    child.start()
    try:
        assert child.wait_until_ready()
        assert child.automatic_device == ("cuda" if torch.cuda.is_available() else "cpu")
    finally:
        child.stop()


@contextmanager
def at_work(database: Database, place: Workplace) -> Iterator[Parent]:
    running = Running(Parent(database, place, TIMING))
    yield running.parent
    running.stop()


def device_of(database: Database, parent: Parent) -> str | None:
    with database.reading() as session:
        return session.scalar(select(Worker.device).where(Worker.name == parent.name))
