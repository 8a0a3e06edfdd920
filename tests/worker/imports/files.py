"""Files of cells for imports, and an import as the command does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from models_store.bundle import CELLS_FILE
from worker.imports.files import find_save
from worker.imports.order import CellOptions, ImportOptions, ImportOrder
from worker.imports.reference import Imported, run_import

from .saves import GENES, Model, SomeCells


def write_counts(
    path: Path, model: Model, cells: SomeCells, *, genes: Sequence[str] = GENES, **parts: Any
) -> Path:
    """An h5ad with counts in X, its genes in any order."""
    order = [GENES.index(gene) if gene in GENES else -1 for gene in genes]
    padded = np.concatenate([cells.x, np.ones((len(cells.x), 1), np.float32)], axis=1)
    var = pd.DataFrame(index=pd.Index(list(genes)))
    adata = anndata.AnnData(sp.csr_matrix(padded[:, order]), obs=cells.obs(model), var=var, **parts)
    adata.write_h5ad(path)
    return path


def write_minified(
    path: Path, model: Model, cells: SomeCells, *, key: str = "scvi_latent", **obsm: np.ndarray
) -> Path:
    """Data as scvi-tools minifies them: no counts, the posterior in obsm."""
    mean, variance = cells.latents(model)
    shape = (len(cells.x), len(GENES))
    adata = anndata.AnnData(
        sp.csr_matrix(shape, dtype=np.float32),
        obs=cells.obs(model),
        var=pd.DataFrame(index=list(GENES)),
        obsm={f"{key}_qzm": mean, f"{key}_qzv": variance, **obsm},
        uns={"_scvi_adata_minify_type": "latent_posterior_parameters"},
    )
    adata.write_h5ad(path)
    return path


def import_save(
    place: Path, scratch: Path, *, prefix: str | None = None, name: str = "atlas", **cells: Any
) -> Imported:
    """What the command does, without a database."""
    out = scratch / "bundle"
    out.mkdir(parents=True)
    order = ImportOrder(
        found=find_save(place, prefix=prefix),
        source=place.name,
        options=ImportOptions(name=name, cells=CellOptions(**cells)),
        scratch=scratch,
        out=out,
        threads=1,
    )
    return run_import(order, lambda: 3, lambda _stage, _share: None)


def read_cells(scratch: Path) -> pd.DataFrame:
    return pd.read_parquet(scratch / "bundle" / CELLS_FILE)


def latents_of(table: pd.DataFrame, what: str = "latent") -> np.ndarray:
    return table[[name for name in table if name.startswith(f"{what}_")]].to_numpy()
