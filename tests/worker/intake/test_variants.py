"""No honest file is refused: counts in every form that tools store come out as they went in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from app.findings import severity_of
from app.problems import Problem

from . import files
from .conftest import check_here
from .variants import VARIANTS, Original

SHARED = Path(__file__).parents[4] / "shared" / "data"
NO_COUNTS = ("noncounts", "lognorm", "cellxgene_nan", "zellkonverter_krumsiek11", "v0.11.4")
"""Files of values that are no counts, or of none at all."""
MOST_CELLS, MOST_GENES = 150, 2000
WHOLE = "kang_muscat_1556"
"""One set is rewritten with all of its cells and genes."""


def shared_files() -> list[Path]:
    return sorted(SHARED.rglob("*.h5ad")) if SHARED.is_dir() else []


def count_sets() -> list[Path]:
    return [path for path in shared_files() if not any(name in path.name for name in NO_COUNTS)]


def simulated() -> Original:
    counts = sp.csr_matrix(files.counts(70, 50))
    return Original(counts, files.names("cell", 70), files.names("gene", 50))


def original_of(path: Path) -> Original:
    """A set as anndata reads it, with the genes that most of its cells have where it is large."""
    read = anndata.read_h5ad(path)
    counts = sp.csr_matrix(read.X).astype(np.float32)
    cells, genes = np.arange(counts.shape[0]), np.arange(counts.shape[1])
    if path.stem != WHOLE:
        cells = np.sort(np.random.default_rng(0).permutation(cells)[:MOST_CELLS])
        genes = np.sort(np.argsort(-counts.getnnz(axis=0), kind="stable")[:MOST_GENES])
    taken = counts[cells][:, genes]
    taken.eliminate_zeros()
    taken.sort_indices()
    obs, var = read.obs_names[cells], read.var_names[genes]
    return Original(taken, list(obs.astype(str)), list(var.astype(str)))


def differences(original: Original, name: str, folder: Path) -> list[str]:
    """What does not come out as it went in, found by itself or where the caller says it is."""
    layer = VARIANTS[name](original, folder / "query.h5ad")
    return [
        f"{name}, layer={asked}: {what}"
        for asked in (None, *([layer] if layer else []))
        for what in _differences(original, folder, asked)
    ]


def _differences(original: Original, folder: Path, layer: str | None) -> Iterator[str]:
    report, query = check_here(folder / "query.h5ad", folder / "canonical", layer=layer)
    yield from (each["code"] for each in report["problems"] if severity_of(each["code"]) == "error")
    found = query.rows(0, query.n_cells)
    genes = json.loads((folder / "canonical" / "genes.json").read_text())
    if found.shape != original.shape:
        yield f"shape {found.shape}"
    elif abs(found - original.counts).nnz or query.nnz != original.counts.nnz:
        yield "counts"
    if genes["index"] != original.genes:
        yield "genes"
    if query.obs().index.tolist() != original.cells:
        yield "cells"


def test_a_difference_is_seen(tmp_path: Path) -> None:
    sound = simulated()
    other = sound.counts.copy()
    other.data[0] += 1
    path = tmp_path / "query.h5ad"
    for name, said in (
        ({"counts": other}, "counts"),
        ({"genes": sound.genes[::-1]}, "genes"),
        ({"cells": sound.cells[::-1]}, "cells"),
    ):
        next(iter(VARIANTS.values()))(sound, path)
        assert said in list(_differences(replace(sound, **name), tmp_path, None))


def test_there_are_enough() -> None:
    assert len(VARIANTS) >= 30


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.filterwarnings("ignore")
def test_simulated_counts_in_every_form(name: str, tmp_path: Path) -> None:
    assert differences(simulated(), name, tmp_path) == []


if count_sets():  # without any, a test over none of them would count as skipped

    @pytest.mark.parametrize("path", count_sets(), ids=lambda path: path.stem)
    @pytest.mark.filterwarnings("ignore")
    def test_real_counts_in_every_form(path: Path, tmp_path: Path) -> None:
        original = original_of(path)
        for at, name in enumerate(VARIANTS):
            (tmp_path / str(at)).mkdir()
            assert differences(original, name, tmp_path / str(at)) == []

    @pytest.mark.parametrize("path", shared_files(), ids=lambda path: path.stem)
    def test_any_real_file_is_accepted_or_told_why_not(path: Path, tmp_path: Path) -> None:
        report, refused = None, None
        try:
            report, query = check_here(path, tmp_path)
        except Problem as problem:
            refused = problem
        if report is not None:
            assert report["nnz"] == query.nnz > 0
            return
        assert refused is not None
        assert refused.errors
        assert all(each["code"] and each["pointer"] for each in refused.errors)
        assert path not in count_sets()
