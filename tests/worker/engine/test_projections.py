"""Projections in files are those in memory, and a mapping with either is the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models_store.cells import Projection
from tests.worker.engine.simulated import Reference, nothing
from tests.worker.engine.test_mapping import order
from tests.worker.engine.test_shards import contents, shuffled, untimed
from worker.mapping import run_mapping
from worker.projections import InFiles, InMemory, keep_projections
from worker.reference_cache import ReferenceCache


def blocks(*sizes: int, library: bool) -> list[Projection]:
    return [
        Projection(torch.randn(n, 5), torch.randn(n, 3) if library else None, torch.randn(n, 1))
        for n in sizes
    ]


@pytest.mark.parametrize("library", [True, False])
def test_files_give_back_what_memory_does(tmp_path: Path, library: bool) -> None:
    in_files, in_memory = InFiles(tmp_path, 24), InMemory()
    for block in blocks(10, 10, 4, library=library):
        in_files.add(block)
        in_memory.add(block)
    stored, held = in_files.finish(), in_memory.finish()
    chosen = np.array([0, 3, 9, 10, 23])
    for found, wanted in (
        (stored.block(8, 24), held.block(8, 24)),
        (stored.rows(chosen), held.rows(chosen)),
        (stored.rows(chosen[:0]), held.rows(chosen[:0])),
    ):
        for part in ("z", "library", "log_library"):
            mine, other = getattr(found, part), getattr(wanted, part)
            assert mine is other is None or torch.equal(mine, other)


def test_a_file_that_was_cut_is_noticed(tmp_path: Path) -> None:
    kept = InFiles(tmp_path, 8)
    kept.add(blocks(8, library=False)[0])
    stored = kept.finish()
    (tmp_path / "z.npy").write_bytes((tmp_path / "z.npy").read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut short"):
        stored.block(0, 8)


def test_few_projections_make_no_file(tmp_path: Path) -> None:
    assert isinstance(keep_projections(tmp_path, 1000), InMemory)
    assert isinstance(keep_projections(None, 10**9), InMemory)
    assert isinstance(keep_projections(tmp_path, 10**6), InFiles)


def test_a_mapping_that_spills_writes_the_same_bytes(
    recommended: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("held", "spilled"):
        (tmp_path / name).mkdir()
    held = order(recommended, tmp_path / "held", shuffled(), recipe="forward")
    told = run_mapping(held, ReferenceCache(), nothing)
    monkeypatch.setattr("worker.projections.MOST_IN_MEMORY", 0)
    spilled = order(recommended, tmp_path / "spilled", shuffled(), recipe="forward")
    assert untimed(run_mapping(spilled, ReferenceCache(), nothing)) == untimed(told)
    assert contents(spilled.out) == contents(held.out)
