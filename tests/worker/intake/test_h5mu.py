"""MuData files: one modality that was asked for, with the columns that the file keeps for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from app.problems import AmbiguousFile, Problem, UnknownLayer, UnreadableFile

from . import files
from .bad_files import replace
from .conftest import Checked, check_here
from .test_layouts import arrays

Check = Callable[..., Checked]


def modality(parent: h5py.Group, name: str, matrix: np.ndarray, cells: list[str]) -> None:
    group = parent.create_group(name)
    files.write_matrix(group, "X", matrix, "csr")
    obs = files.write_frame(group, "obs", cells, ["depth"])
    obs["depth"] = matrix.sum(axis=1)
    files.write_frame(group, "var", files.names("gene", matrix.shape[1]), [])


def write(path: Path, names: tuple[str, ...] = ("rna", "prot")) -> Path:
    """Each modality with counts of its own seed; the first lacks the last two of all cells."""
    cells = files.names("cell", files.CELLS)
    with h5py.File(path, "w") as file:
        mod = file.create_group("mod")
        for seed, name in enumerate(names):
            own = cells[::-1][2:] if seed == 0 else cells
            modality(mod, name, files.counts(len(own), seed=seed), own)
        obs = files.write_frame(file, "obs", cells, ["donor", f"{names[0]}:depth", "prot:depth"])
        obs["donor"] = np.arange(files.CELLS)
        obs[f"{names[0]}:depth"] = np.zeros(files.CELLS)
        obs["prot:depth"] = np.ones(files.CELLS)
        files.write_frame(file, "var", ["x"], [])
    return path


def test_the_modality_that_is_asked_for_comes_out(check: Check, tmp_path: Path) -> None:
    report, query = check(write(tmp_path / "query.h5mu"), modality="rna")
    assert (report["format"], report["modality"]) == ("h5mu", "rna")
    assert (query.rows(0, 99).toarray() == files.counts(10)).all()
    obs = query.obs()
    assert list(obs.columns) == ["depth", "donor", "prot:depth"]
    assert obs["donor"].tolist() == list(range(files.CELLS))[::-1][2:]
    assert obs["depth"].tolist() == files.counts(10).sum(axis=1).tolist()
    assert report["dropped"]["modalities"] == ["prot"]


@pytest.mark.parametrize("pulled", [False, True])
def test_it_equals_the_modality_as_a_file_of_its_own(pulled: bool, tmp_path: Path) -> None:
    matrix = files.counts(20, 9)
    rna = anndata.AnnData(sp.csr_matrix(matrix))
    rna.obs_names, rna.var_names = files.names("cell", 20), files.names("gene", 9)
    rna.obs["kind"] = pd.Categorical(["a", "b"] * 10)
    protein = anndata.AnnData(files.counts(20, 3), obs=pd.DataFrame(index=rna.obs_names))
    with mudata.set_options(pull_on_update=pulled):  # as before mudata 0.4, and since
        whole = mudata.MuData({"rna": rna.copy(), "prot": protein})
        whole.obs["donor"] = ["x", "y"] * 10
        whole.write(tmp_path / "query.h5mu")
    rna.write_h5ad(tmp_path / "query.h5ad")
    _, mu = check_here(tmp_path / "query.h5mu", tmp_path / "mu", modality="rna")
    _, ad = check_here(tmp_path / "query.h5ad", tmp_path / "ad")
    assert arrays(tmp_path / "mu") == arrays(tmp_path / "ad")
    assert mu.gene_columns() == ad.gene_columns()
    assert mu.obs()[["kind"]].equals(ad.obs()[["kind"]])
    assert mu.obs()["donor"].tolist() == ["x", "y"] * 10


@pytest.mark.parametrize(
    ("names", "found"), [(("atac", "GEX"), "GEX"), (("only",), "only"), (("gex", "rna"), "rna")]
)
def test_which_modality_is_usual(
    names: tuple[str, ...], found: str, check: Check, tmp_path: Path
) -> None:
    assert check(write(tmp_path / "query.h5mu", names))[0]["modality"] == found


def test_others_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "query.h5mu", ("left", "right"))
    with pytest.raises(AmbiguousFile, match="`left`, `right`") as caught:
        check_here(path, tmp_path / "none")
    assert caught.value.errors[0]["code"] == "several-modalities"
    with pytest.raises(UnknownLayer, match="no modality 'rna'"):
        check_here(path, tmp_path / "wrong", modality="rna")
    _, query = check_here(path, tmp_path / "right", modality="right")
    assert (query.rows(0, 99).toarray() == files.counts(seed=1)).all()


def test_cells_that_are_not_in_the_table_of_all_get_nothing_from_it(
    check: Check, tmp_path: Path
) -> None:
    path = write(tmp_path / "query.h5mu")
    with h5py.File(path, "a") as file:
        replace(file, "obs/_index", np.array(files.names("other", files.CELLS), dtype="S"))
    _, query = check(path, modality="rna")
    assert list(query.obs().columns) == ["depth"]


def test_a_damaged_table_of_all_costs_its_columns_alone(check: Check, tmp_path: Path) -> None:
    path = write(tmp_path / "query.h5mu")
    with h5py.File(path, "a") as file:
        del file["obs/_index"]
    report, query = check(path, modality="rna")
    assert list(query.obs().columns) == ["depth"]
    assert [(each["code"], each["pointer"]) for each in report["problems"]] == [
        ("column-left-out", "/obs")
    ]


BROKEN: dict[str, tuple[str, str, Callable[[h5py.File], Any]]] = {
    "matrix": ("index-out-of-range", "/mod/rna/X/indices",
               lambda file: file["mod/rna/X/indices"].__setitem__(1, 99)),
    "no cells": ("table-missing", "/mod/rna/obs", lambda file: file.__delitem__("mod/rna/obs")),
    "no genes": ("table-missing", "/mod/rna/var", lambda file: file.__delitem__("mod/rna/var")),
    "no matrix": ("unknown-layer", "/mod/rna/X", lambda file: file.__delitem__("mod/rna/X")),
    "link out": ("external-link", "/mod/prot", lambda file: (
        file.__delitem__("mod/prot"),
        file.__setitem__("mod/prot", h5py.ExternalLink("/etc/passwd", "/")))),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_refuses(name: str, sandboxed: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    code, pointer, break_it = BROKEN[name]
    path = write(tmp_path / "query.h5mu")
    with h5py.File(path, "a") as file:
        break_it(file)
    with pytest.raises(Problem) as caught:
        sandboxed(path)
    assert (code, pointer) in {(each["code"], each["pointer"]) for each in caught.value.errors}


def test_no_modality_at_all(check: Check, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "query.h5mu", "w") as file:
        file.create_group("mod")
    with pytest.raises(UnreadableFile, match="no modality"):
        check(tmp_path / "query.h5mu")


@pytest.mark.parametrize("odd", [b"MuData (<script>)", b"MuData", b"#!/bin/sh\n"])
def test_nothing_else_may_stand_before_the_header(odd: bytes, check: Check, tmp_path: Path) -> None:
    sound = write(tmp_path / "query.h5mu").read_bytes()
    (tmp_path / "odd.h5mu").write_bytes(odd.ljust(512, b"\0") + sound)
    with pytest.raises(Problem, match="user block"):
        check(tmp_path / "odd.h5mu")
