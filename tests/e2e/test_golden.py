"""Golden queries: kept beside a version, and mapped again whenever it is verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.cells import cells, write
from tests.e2e.service import REFERENCE, cellgraft

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def add(data_dir: Path, file: Path, *options: str) -> str:
    told = cellgraft(data_dir, "references", "golden", "add", REFERENCE, "1", str(file), *options)
    return told.split()[2].rstrip(";")


def latents(data_dir: Path) -> list[Path]:
    return sorted((data_dir / f"store/references/{REFERENCE}/1/golden").glob("*/latent-cpu.npy"))


def test_golden_queries_prove_a_version(built: Path, query_file: Path, tmp_path: Path) -> None:
    """One story, because each run takes seconds and leaves what the next is compared with."""
    data_dir = tmp_path / "data"
    shutil.copytree(built, data_dir)
    normalised = cells(50, ["S1"], seed=3)
    normalised.X = normalised.X * 0.5
    add(data_dir, query_file, "--expect", "pass", "--batch-key", "sample", "--labels-key",
        "cell_type", "--min-agreement", "0.4")  # fmt: skip
    add(data_dir, write(tmp_path / "normalised.h5ad", normalised), "--expect", "fail")
    first = cellgraft(data_dir, "references", "verify", REFERENCE)
    assert "first run" in first
    assert "NO" not in first
    (stored,) = latents(data_dir)
    assert np.load(stored).shape == (400, 4)
    listed = cellgraft(data_dir, "references", "golden", "list", REFERENCE, "1")
    assert "not-counts" in listed.replace("\n", "")
    assert "agree" in cellgraft(data_dir, "fsck")

    second = cellgraft(data_dir, "references", "verify", f"{REFERENCE}@1")
    assert "0.0e+00" in second  # the same machine gives the same bytes

    np.save(stored, np.load(stored) + np.float32(1e-3))
    maps = add(data_dir, query_file, "--expect", "fail", "--batch-key", "sample")
    add(data_dir, query_file, "--expect", "fail", "--batch-key", "nowhere", "--problem",
        "not-counts")  # fmt: skip
    third = cellgraft(data_dir, "references", "verify", REFERENCE, code=1)
    told = " ".join(third.split())
    assert "it maps, and must be refused" in told
    assert "It must be not-counts" in told
    assert "3 of 4 golden queries do not hold" in told
    assert "1.0e-03" in told
    assert latents(data_dir) == [stored]

    assert maps in cellgraft(data_dir, "references", "golden", "remove", maps)
    assert not list((data_dir / "store").rglob(f"*/golden/{maps}"))
    cellgraft(data_dir, "references", "remove", REFERENCE, "1", "--yes")
    assert not (data_dir / f"store/references/{REFERENCE}/1").exists()
    assert "agree" in cellgraft(data_dir, "fsck")
