"""Model files and the cells beside them are read behind the same walls, whatever the layer."""

from __future__ import annotations

import signal
from pathlib import Path

import h5py
import pytest

from app.problems import Problem, UnreadableSave
from tests.worker.imports.files import write_counts
from tests.worker.imports.saves import Model, some_cells, write
from worker.bubblewrap import status_of
from worker.imports.cells import CellsRequest
from worker.imports.limits import SaveLimits
from worker.imports.reader import read_cells_apart, read_save_apart
from worker.imports.save import SaveFiles
from worker.intake.limits import Limits

from .conftest import ROOT, layers_of
from .watching import watching

MODEL = Model()
WANTED = CellsRequest(columns=[], n_latent=10)


@pytest.fixture(autouse=True)
def _readers_find_cellgraft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("version", ["0.14.6", "1.4.2"])
def test_a_save_is_read(version: str, layer: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "save", MODEL, version)
    parts = {
        name: found[0]
        for name, pattern in (("var_names", "*.csv"), ("attributes", "*.pkl"))
        if (found := sorted(folder.glob(pattern)))
    }
    (model,) = folder.glob("*.pt")
    files = SaveFiles(model, **parts)
    told = read_save_apart(files, tmp_path / "out", SaveLimits(), layers_of(layer))
    assert told["attributes"]


def test_cells_are_read(layer: str, tmp_path: Path) -> None:
    path = write_counts(tmp_path / "cells.h5ad", MODEL, some_cells(MODEL))
    facts = read_cells_apart(
        path,
        WANTED,
        tmp_path / "out",
        Limits(),
        lambda share: None,
        layers_of(layer),
    )
    assert facts["n_cells"] == 40


def test_cells_that_lead_elsewhere_are_refused_unread(layer: str, tmp_path: Path) -> None:
    neighbour = write_counts(tmp_path / "neighbour.h5ad", MODEL, some_cells(MODEL))
    path = write_counts(tmp_path / "cells.h5ad", MODEL, some_cells(MODEL))
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink(str(neighbour), "/X")
    with watching(neighbour) as watched, pytest.raises(Problem):
        read_cells_apart(
            path, WANTED, tmp_path / "out", Limits(), lambda share: None, layers_of(layer)
        )
    assert not watched.touched


def test_a_damaged_save_is_refused(layer: str, tmp_path: Path) -> None:
    damaged = tmp_path / "model.pt"
    damaged.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UnreadableSave):
        read_save_apart(SaveFiles(damaged), tmp_path / "out", SaveLimits(), layers_of(layer))


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, 0), (3, 3), (128 + signal.SIGXCPU, -signal.SIGXCPU), (139, -signal.SIGSEGV), (-9, -9)],
)
def test_deaths_within_bubblewrap_are_understood(status: int, expected: int) -> None:
    assert status_of(status) == expected
