"""Cells with nothing in them: refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from app.problems import UnfitCells

from .files import import_save, write_counts, write_minified
from .saves import GENES, Model, some_cells, write

MODEL = Model()
CELLS = some_cells(MODEL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "save", MODEL, "1.4.2")


@pytest.mark.parametrize("written", [write_counts, write_minified])
def test_a_file_without_cells(written: object, folder: Path, tmp_path: Path) -> None:
    assert callable(written)
    file = written(tmp_path / "full.h5ad", MODEL, CELLS)
    anndata.read_h5ad(file)[:0].write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(UnfitCells, match="has no cells"):
        import_save(folder, tmp_path / "work", path=tmp_path / "cells.h5ad")


def test_a_umap_without_columns(folder: Path, tmp_path: Path) -> None:
    obsm = {"X_umap": np.empty((40, 0), dtype=np.float32)}
    file = write_counts(tmp_path / "cells.h5ad", MODEL, CELLS, obsm=obsm)
    with pytest.raises(UnfitCells, match="`obsm/X_umap` has no columns"):
        import_save(folder, tmp_path / "work", path=file, umap_key="X_umap")


def test_counts_of_none_of_the_models_genes(folder: Path, tmp_path: Path) -> None:
    """Their shares would be 0 / 0."""
    x = np.zeros((40, len(GENES) + 1), dtype=np.float32)
    x[:, -1] = 3
    var = pd.DataFrame(index=pd.Index([*GENES, "OTHER"]))
    adata = anndata.AnnData(sp.csr_matrix(x), obs=CELLS.obs(MODEL), var=var)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(UnfitCells, match="No cell has a value above zero in `X`"):
        import_save(folder, tmp_path / "work", path=tmp_path / "cells.h5ad")
