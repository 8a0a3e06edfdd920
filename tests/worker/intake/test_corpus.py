"""Every file of the corpus is refused by name and place, cheaply, and without a look elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.findings import ERRORS
from app.problems import Problem
from worker.checking import CheckOrder
from worker.intake.limits import Limits
from worker.zygote_process import ZygoteProcess

from .bad import CORPUS, BadFile
from .bad.canaries import lay_out, read_all, watched
from .bad.measuring_zygote import MEASURED

SECONDS, KIB = 10.0, 2**20
MODULE = "tests.worker.intake.bad.measuring_zygote"


@dataclass
class Checker:
    """Checks files as the service does, with its own limits, and knows what each check cost."""

    zygote: ZygoteProcess
    folder: Path

    def refuse(self, path: Path, folder: Path) -> Problem:
        order = CheckOrder(path, folder / "canonical", {}, 600.0, Limits(cpu_seconds=601))
        with pytest.raises(Problem) as caught:
            self.zygote.check(order)
        return caught.value

    def costs(self) -> list[dict[str, Any]]:
        lines = (self.folder / MEASURED).read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checker]:
    folder = tmp_path_factory.mktemp("measured")
    canaries = tmp_path_factory.mktemp("prefixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        for name in ("HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX"):
            patch.setenv(name, str(canaries))
        patch.setenv("HDF5_PLUGIN_PATH", str(canaries))
        zygote = ZygoteProcess(MODULE)
        zygote.start()
    yield Checker(zygote, folder)
    zygote.stop()


def write(bad: BadFile, folder: Path) -> Path:
    lay_out(folder)
    return bad.write(folder)


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 150
    assert len({bad.kind for bad in CORPUS.values()}) >= 12
    assert {code for bad in CORPUS.values() for code in bad.codes} <= set(ERRORS)


@pytest.mark.parametrize("name", CORPUS)
def test_a_bad_file_is_refused(name: str, checker: Checker, tmp_path: Path) -> None:
    bad = CORPUS[name]
    path = write(bad, tmp_path / "uploads")
    zygote = checker.zygote.pid
    began = time.monotonic()
    with watched(path.parent, path.name) as touched:
        problem = checker.refuse(path, tmp_path)
    assert time.monotonic() - began < SECONDS
    assert not touched
    assert_told(bad, problem)
    assert checker.zygote.pid == zygote
    assert checker.zygote.is_alive()
    cost = checker.costs()[-1]
    assert cost["peak_kib"] < KIB, cost


def assert_told(bad: BadFile, problem: Problem) -> None:
    assert 400 <= problem.status < 500
    assert problem.fix
    told = {(error["code"], error["pointer"]) for error in problem.errors}
    codes = {code for code, _ in told}
    assert all(error["detail"] and error["fix"] for error in problem.errors)
    if bad.damaged:
        assert codes & set(bad.codes), told
    else:
        assert set(bad.codes) <= codes, told
        assert (bad.codes[0], bad.pointer) in told, told


@pytest.mark.parametrize("name", [name for name, bad in CORPUS.items() if bad.leads_out])
def test_the_watch_sees_who_follows(name: str, tmp_path: Path) -> None:
    """The control: a reader that trusts the same file opens what it must not."""
    path = write(CORPUS[name], tmp_path / "uploads")
    with watched(path.parent, path.name) as touched:
        read_all(path)
    assert touched
