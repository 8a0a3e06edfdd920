"""What a reader that a file has taken over could do: nothing but die, which refuses the file."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from app.problems import FileTooLarge, InternalFault, JobTimeout, UnreadableFile
from tests.worker.intake import files

from .conftest import Naive

OPEN_WITHOUT_WALLS = {"read another file", "list a folder", "environment"}


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return files.write_h5ad(tmp_path / "upload.h5ad")


def test_it_can_do_nothing_but_read_its_file(
    layer: str, naive: Naive, upload: Path, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    target.write_bytes(b"kept")
    found = naive(upload, f"escape {target}")
    done = {what for what, outcome in found.items() if outcome == "done"}
    allowed = OPEN_WITHOUT_WALLS if layer == "limits" else set()
    if layer == "bubblewrap":
        allowed = {"environment"}  # its own, which has no secrets
    assert done == allowed
    assert len(found) == 21
    assert target.read_bytes() == b"kept"
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert naive.zygote.is_alive()


FATAL = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


@pytest.mark.parametrize("number", FATAL, ids=lambda number: number.name)
def test_a_death_by_signal_refuses_the_file(number: int, naive: Naive, upload: Path) -> None:
    with pytest.raises(UnreadableFile) as raised:
        naive(upload, f"die {int(number)}")
    assert [each["code"] for each in raised.value.errors] == ["crashes-reader"]
    assert raised.value.status < 500
    assert naive(upload, "follow")


def test_a_read_of_wild_memory_refuses_the_file(naive: Naive, upload: Path) -> None:
    with pytest.raises(UnreadableFile, match="crashes the HDF5 reader"):
        naive(upload, "read-wild-memory")


@pytest.mark.parametrize("then", ["refuse", "fail"])
def test_last_words_are_said_though_memory_is_full(
    naive: Naive, upload: Path, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    if then == "refuse":
        assert naive(upload, "fill refuse")["held"] > 0
    else:
        with pytest.raises(InternalFault):
            naive(upload, "fill fail")
        assert "fill" in caplog.text


def test_a_death_with_memory_full_is_told_as_that(naive: Naive, upload: Path) -> None:
    with pytest.raises(FileTooLarge) as raised:
        naive(upload, "fill die")
    assert [each["code"] for each in raised.value.errors] == ["out-of-memory"]
    assert naive(upload, "follow")


def test_a_fault_of_ours_is_told_as_one(naive: Naive, upload: Path) -> None:
    with pytest.raises(InternalFault):
        naive(upload, "break-down")


def test_a_check_that_waits_is_ended(naive: Naive, upload: Path) -> None:
    began = time.monotonic()
    with pytest.raises(JobTimeout):
        naive(upload, "wait", seconds=0.5)
    assert time.monotonic() - began < 5
    assert naive(upload, "follow")
