"""How well query cells find reference cells of their own type, in one space or another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.str_]

NEIGHBOURS = 15
COMPONENTS = 50
COUNTS_PER_CELL = 1e4


def label_agreement(reference: Floats, labels: Labels, query: Floats, truth: Labels) -> float:
    """Share of query cells whose nearest reference cells are mostly of their own type.

    Cells of types that the reference lacks cannot be right, and are left out.
    """
    known = np.isin(truth, labels)
    search = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reference)
    neighbours = search.kneighbors(query[known], return_distance=False)
    types, codes = np.unique(labels, return_inverse=True)
    votes = np.stack([(codes[neighbours] == code).sum(axis=1) for code in range(len(types))])
    return float((types[votes.argmax(axis=0)] == truth[known]).mean())


def latent_agreement(
    reference_cells: Path, query_latent: Path, query: Path, *, label: str
) -> float:
    """In the latent space, from the files that the service gave out."""
    cells, latent = pd.read_parquet(reference_cells), pd.read_parquet(query_latent)
    columns = list(latent.columns)
    truth = anndata.read_h5ad(query, backed="r").obs[label].reindex(latent.index)
    return label_agreement(
        cells[columns].to_numpy(), _labels(cells[label]), latent.to_numpy(), _labels(truth)
    )


def pca_agreement(reference: Path, query: Path, *, label: str) -> float:
    """In principal components of log-normalised counts: what one has without a mapping.

    The components are fitted on the reference, with the query projected, and on both together;
    the better of the two counts.
    """
    ours, theirs = anndata.read_h5ad(reference), anndata.read_h5ad(query)
    genes = ours.var_names.intersection(theirs.var_names)
    x, y = _log_normalised(ours[:, genes]), _log_normalised(theirs[:, genes])
    labels, truth = _labels(ours.obs[label]), _labels(theirs.obs[label])
    found = []
    for fitted_on in (x, np.vstack([x, y])):
        pca = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit(fitted_on)
        found.append(label_agreement(pca.transform(x), labels, pca.transform(y), truth))
    return max(found)


def _labels(column: pd.Series) -> Labels:
    return np.asarray(column, dtype=np.str_)


def _log_normalised(cells: anndata.AnnData) -> Floats:
    counts = sparse.csr_matrix(cells.X)
    totals = np.maximum(np.asarray(counts.sum(axis=1)), 1.0)
    return np.log1p(counts.toarray() / totals * COUNTS_PER_CELL)
