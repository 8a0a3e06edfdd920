"""What a check makes of a file, outside of the service: accepted, refused by a code, or a fault."""

from __future__ import annotations

import hashlib
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401 - as in the zygote: before the fork, not in each child

from app.problems import Problem
from worker.intake.check import Request, check_upload
from worker.intake.findings import too_large
from worker.intake.folder import ARRAYS, CanonicalFolder
from worker.intake.frames import FILES
from worker.intake.limits import GIB, Limits
from worker.intake.samples import UploadedFile

from .mutants import CANARY_COUNT

LIMITS = Limits(memory_bytes=GIB, cpu_seconds=10)


def treat(path: str, folder: str) -> dict[str, Any]:
    """Check one file into a folder, as a child of the zygote does."""
    try:
        return {"accepted": _check(Path(path), Path(folder))}
    except Problem as problem:
        return {"refused": [error["code"] for error in problem.errors] or [problem.type]}
    except MemoryError:
        return {"refused": [error["code"] for error in too_large("/").errors]}
    except Exception:  # noqa: BLE001 - told to the tally, which counts it as a broken promise
        return {"fault": traceback.format_exc()[-2000:]}


class _Kept:
    """A sink in memory: most files are refused, and files that nobody reads cost the most time."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, bytes]] = []

    def write(self, name: str, data: Any) -> None:
        self.pieces.append((name, memoryview(data).tobytes()))

    def progress(self, fraction: float) -> None:
        return None

    def restart(self) -> None:
        self.pieces = [piece for piece in self.pieces if piece[0] not in ARRAYS]


def _check(path: Path, folder: Path) -> dict[str, Any]:
    kept = _Kept()
    report = check_upload(
        [UploadedFile(path)], Request(), LIMITS.for_size(path.stat().st_size), kept
    )
    with closing(CanonicalFolder(folder, quota=GIB)) as sink:
        for name, data in kept.pieces:
            sink.write(name, data)
        sink.finish(report)
    return describe(folder, report)


def describe(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """What a mapping of this query depends on, and whether it holds what is not its own."""
    counts = np.load(folder / "data.npy")
    digest = hashlib.blake2b(digest_size=16)
    for name in FILES[:-1]:  # canonical.json also names what was dropped
        digest.update((folder / name).read_bytes())
    return {
        "digest": digest.hexdigest(),
        "n_cells": int(report["n_cells"]),
        "has_sample": any(each["name"] == "sample" for each in report["columns"]),
        "leaks": bool((counts == CANARY_COUNT).any()),
    }
