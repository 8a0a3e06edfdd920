"""Checking files, in this process and in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.canonical import CanonicalQuery
from worker.checking import CheckOrder
from worker.intake.check import Request, check_upload
from worker.intake.folder import CanonicalFolder
from worker.intake.limits import Limits
from worker.intake.samples import UploadedFile
from worker.zygote_process import ZygoteProcess

Checked = tuple[dict[str, Any], CanonicalQuery]


def check_here(
    path: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    options: dict[str, Any] | None = None,
    **request: Any,
) -> Checked:
    sink = CanonicalFolder(folder, quota=2**40)
    asked = Request.from_options(options) if options is not None else Request(**request)
    try:
        report = check_upload([UploadedFile(path)], asked, limits or Limits(), sink)
        sink.finish(report)
    finally:
        sink.close()
    return report, CanonicalQuery.open(folder)


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Checked]:
    """Check a file in this process: fast, and a debugger sees it."""
    return lambda path, **request: check_here(path, tmp_path / "canonical", **request)


@pytest.fixture(scope="session")
def zygote() -> Iterator[ZygoteProcess]:
    process = ZygoteProcess()
    process.start()
    yield process
    process.stop()


@pytest.fixture
def sandboxed(zygote: ZygoteProcess, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Check a file as the service does: in a child of the zygote."""

    def run(path: Path, **options: Any) -> dict[str, Any]:
        if not zygote.is_alive():
            zygote.start()
        limits = Limits(memory_bytes=2**30, cpu_seconds=10)
        order = CheckOrder(path, tmp_path / "canonical", options, 10.0, limits)
        return zygote.check(order)

    return run
