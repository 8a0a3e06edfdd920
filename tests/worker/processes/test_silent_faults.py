"""A fault of ours on somebody's data is told by type and place, whichever process it is in."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import pytest

from app.logs import JsonLines, PlainLines
from worker import child, zygote
from worker.imports import child as reader
from worker.intake.frames import FrameWriter
from worker.intake.limits import Limits

CANARY = "zqcanary-value"


def fails(*_: Any) -> Any:
    raise ValueError(f"could not convert {CANARY} to float")


def frames_of(run: Callable[[FrameWriter], Any]) -> bytes:
    read_end, write_end = os.pipe()
    run(FrameWriter(write_end))
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        return pipe.read()


def test_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote, "enter_sandbox", lambda *_, **__: None)
    order = {"names": [CANARY], "options": {}}
    told = frames_of(lambda frames: zygote._check(order, Limits(), frames, fails))
    assert b"ValueError" in told
    assert b"in fails" in told
    assert CANARY.encode() not in told


def test_a_reader_of_foreign_files() -> None:
    told = frames_of(lambda frames: reader._read(fails, frames))
    assert b"ValueError" in told
    assert CANARY.encode() not in told


class Runs:
    prepare = run = staticmethod(fails)


class Silent:
    def receive(self, _seconds: float | None) -> None:
        return None


def test_a_computation(caplog: pytest.LogCaptureFixture) -> None:
    order = {"kind": "sample", "canonical": "/x", "threads": 1, "device": "cpu"}
    answer = child._answer(Silent(), Runs(), 1, order)  # type: ignore[arg-type]
    assert CANARY not in str(answer)
    assert answer["problem"]["type"] == "internal-fault"
    (record,) = caplog.records
    for formatter in (JsonLines(), PlainLines("%(message)s")):
        assert isinstance(formatter, logging.Formatter)
        told = formatter.format(record)
        assert "ValueError" in told
        assert CANARY not in told
