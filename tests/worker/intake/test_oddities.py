"""Reports that name every fault of a file, and strange files that are sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.problems import Problem
from worker.canonical import CanonicalQuery
from worker.zygote_process import ZygoteProcess

from . import files
from .bad import faults
from .bad.oddities import ODDITIES

Sandboxed = Callable[..., dict[str, Any]]


def told_of(report: dict[str, Any] | None) -> set[tuple[str, str]]:
    assert report is not None
    return {(each["code"], each["pointer"]) for each in report["problems"]}


@pytest.mark.parametrize("seed", range(40))
def test_eight_faults_are_all_told(seed: int, sandboxed: Sandboxed, tmp_path: Path) -> None:
    drawn = faults.some_of_them(8, seed)
    assert len({fault.part for fault in drawn}) == 8
    with pytest.raises(Problem) as caught:
        sandboxed(faults.write(tmp_path / "query.h5ad", drawn))
    wanted = {(fault.code, fault.pointer) for fault in drawn}
    assert wanted <= told_of(caught.value.inspection)


def test_as_many_faults_as_fit_are_all_told(sandboxed: Sandboxed, tmp_path: Path) -> None:
    drawn = faults.some_of_them(100, 0)
    assert len(drawn) >= 17
    with pytest.raises(Problem) as caught:
        sandboxed(faults.write(tmp_path / "query.h5ad", drawn))
    assert {(fault.code, fault.pointer) for fault in drawn} <= told_of(caught.value.inspection)


@pytest.mark.parametrize("name", ODDITIES)
def test_an_odd_file_comes_out_right(
    name: str, sandboxed: Sandboxed, zygote: ZygoteProcess, tmp_path: Path
) -> None:
    (tmp_path / "uploads").mkdir()
    report = sandboxed(ODDITIES[name](tmp_path / "uploads"))
    json.dumps(report, ensure_ascii=False).encode()
    query = CanonicalQuery.open(tmp_path / "canonical")
    assert np.array_equal(query.rows(0, files.CELLS).toarray(), files.counts())
    assert zygote.is_alive()
