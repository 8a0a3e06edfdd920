"""Saves with the MuData beside them, as scvi-tools writes them: its cells are the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.problems import UnfitCells
from models_store.bundle import CELLS_FILE
from worker.imports.order import CellOptions
from worker.imports.reference import run_import

from .importing import import_order
from .multivi_configurations import CONFIGURATIONS
from .multivi_oracle import simulate

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

LIMIT = 1e-5
UNPAIRED = CONFIGURATIONS["MULTIVI: genes, regions, proteins, unpaired, encoded, deep"]
NAMES = {"rna": "genes of 2k", "atac": "open", "protein": "surface"}
"""Names that say nothing to us: the save's setup tells which is which."""


def _mudata(*modalities: str) -> Any:
    """Counts of the first in a layer, and the numbers of scanpy in its X."""
    import mudata

    whole = simulate(UNPAIRED, query=False)
    parts = {NAMES[name]: whole[name].copy() for name in modalities}
    first = parts[NAMES[modalities[0]]]
    first.layers["umis"] = first.X.copy()
    first.X = np.log1p(first.X)
    made = mudata.MuData(parts)
    made.obs = whole.obs.copy()
    return made


def _saved(model: Any, folder: Path, **options: Any) -> np.ndarray:
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    model.train(max_epochs=2, **quiet, **options)
    model.save(folder, save_anndata=True)
    return np.asarray(model.get_latent_representation())


def _multivi(folder: Path) -> np.ndarray:
    import scvi

    mdata = _mudata("rna", "atac", "protein")
    scvi.model.MULTIVI.setup_mudata(
        mdata,
        rna_layer="umis",
        batch_key="batch",
        modalities={
            "rna_layer": NAMES["rna"],
            "atac_layer": NAMES["atac"],
            "protein_layer": NAMES["protein"],
        },
    )
    return _saved(scvi.model.MULTIVI(mdata, n_hidden=8, n_latent=3), folder)


def _totalvi(folder: Path) -> np.ndarray:
    import scvi

    mdata = _mudata("rna", "protein")
    scvi.model.TOTALVI.setup_mudata(
        mdata,
        rna_layer="umis",
        protein_layer=None,
        batch_key="batch",
        modalities={"rna_layer": NAMES["rna"], "protein_layer": NAMES["protein"]},
    )
    return _saved(scvi.model.TOTALVI(mdata, n_latent=3), folder, reduce_lr_on_plateau=False)


def _import(save: Path, scratch: Path, cells: Path | None = None) -> pd.DataFrame:
    order = import_order(save, scratch, CellOptions(path=cells))
    run_import(order, lambda: 1, lambda _stage, _share: None)
    return pd.read_parquet(order.out / CELLS_FILE)


@pytest.mark.parametrize("kind", [_multivi, _totalvi])
def test_cells_of_a_mudata(kind: Any, tmp_path: Path) -> None:
    theirs = kind(tmp_path / "save")
    cells = _import(tmp_path / "save", tmp_path / "work")
    assert list(cells.index) == [f"cell{i}" for i in range(len(theirs))]
    assert set(cells["batch"]) == set(UNPAIRED.reference_batches)
    latent = cells[[f"latent_{i}" for i in range(theirs.shape[1])]].to_numpy()
    assert np.abs(latent - theirs).max() < LIMIT * np.abs(theirs).max()


def test_a_mudata_for_a_model_of_one_table(tmp_path: Path) -> None:
    """The save names a table of obsm, which is a modality of the file."""
    import mudata
    import scvi

    whole = simulate(UNPAIRED, query=False)
    adata = whole["rna"].copy()
    adata.obs = whole.obs.copy()
    adata.obsm["held"] = whole["protein"].to_df()
    scvi.model.TOTALVI.setup_anndata(adata, protein_expression_obsm_key="held", batch_key="batch")
    model = scvi.model.TOTALVI(adata, n_latent=3)
    theirs = _saved(model, tmp_path / "save", reduce_lr_on_plateau=False)
    (tmp_path / "save" / "adata.h5ad").unlink()
    both = mudata.MuData({"rna": whole["rna"], "prot": whole["protein"]})
    both.obs = whole.obs.copy()
    both.write_h5mu(tmp_path / "cells.h5mu")
    cells = _import(tmp_path / "save", tmp_path / "work", tmp_path / "cells.h5mu")
    latent = cells[[f"latent_{i}" for i in range(3)]].to_numpy()
    assert np.abs(latent - theirs).max() < LIMIT * np.abs(theirs).max()


@pytest.mark.parametrize("fault", ["no such modality", "no counts"])
def test_a_mudata_that_lacks_what_the_model_needs(fault: str, tmp_path: Path) -> None:
    import mudata

    _multivi(tmp_path / "save")
    path = tmp_path / "save" / "mdata.h5mu"
    mdata = mudata.read_h5mu(path)
    if fault == "no counts":
        mdata[NAMES["protein"]].X = np.log1p(mdata[NAMES["protein"]].X)
    else:
        del mdata.mod[NAMES["protein"]]
    mdata.write_h5mu(path)
    with pytest.raises(UnfitCells) as raised:
        _import(tmp_path / "save", tmp_path / "work")
    assert NAMES["protein"] in raised.value.detail
