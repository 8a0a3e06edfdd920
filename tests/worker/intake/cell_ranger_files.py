"""Files of 10x Genomics written by hand: .h5 of both layouts, sound unless a test breaks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp

from . import files


def barcodes(number: int) -> list[str]:
    """Distinct ones, as Cell Ranger names cells."""
    letters = np.array(list("ACGT"))
    digits = [[(cell // 4**place) % 4 for place in range(16)] for cell in range(number)]
    return ["".join(letters[each]) + "-1" for each in digits]


def gene_ids(number: int) -> list[str]:
    return [f"ENSG{i:011d}" for i in range(number)]


def symbols(number: int) -> list[str]:
    return [f"GENE{i}" for i in range(number)]


def write_v3(
    path: Path,
    matrix: np.ndarray | None = None,
    *,
    extra: dict[str, list[str]] | None = None,
    **kw: Any,
) -> Path:
    """Cells by genes goes in; genes by cells, by columns, is stored. `kw`: of each dataset."""
    matrix = files.counts() if matrix is None else matrix
    n_cells, n_genes = matrix.shape
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        _write_matrix(group, matrix, **kw)
        group["barcodes"] = np.array(barcodes(n_cells), dtype="S")
        features = group.create_group("features")
        features["id"] = np.array(gene_ids(n_genes), dtype="S")
        features["name"] = np.array(symbols(n_genes), dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * n_genes, dtype="S")
        features["genome"] = np.array(["GRCh38"] * n_genes, dtype="S")
        for name, values in (extra or {}).items():
            del features[name]
            features[name] = np.array(values, dtype="S")
        features["_all_tag_keys"] = np.array([b"genome"])
    return path


def write_v2(path: Path, matrices: dict[str, np.ndarray] | None = None) -> Path:
    """One group for each genome."""
    with h5py.File(path, "w") as file:
        for genome, matrix in (matrices or {"hg19": files.counts()}).items():
            group = file.create_group(genome)
            _write_matrix(group, matrix)
            group["barcodes"] = np.array(barcodes(matrix.shape[0]), dtype="S")
            group["genes"] = np.array(gene_ids(matrix.shape[1]), dtype="S")
            group["gene_names"] = np.array(symbols(matrix.shape[1]), dtype="S")
    return path


def _write_matrix(group: h5py.Group, matrix: np.ndarray, **kw: Any) -> None:
    by_column = sp.csc_matrix(matrix.T)
    group.create_dataset("data", data=by_column.data.astype(np.int32), **kw)
    group.create_dataset("indices", data=by_column.indices.astype(np.int64), **kw)
    group.create_dataset("indptr", data=by_column.indptr.astype(np.int64), **kw)
    group["shape"] = np.array(matrix.T.shape, dtype=np.int32)


def write_same_h5ad(path: Path, matrix: np.ndarray) -> Path:
    """The h5ad with the names that the files of 10x have."""
    files.write_h5ad(path, matrix)
    with h5py.File(path, "a") as file:
        for table, index in (
            ("obs", barcodes(matrix.shape[0])),
            ("var", gene_ids(matrix.shape[1])),
        ):
            del file[table]
            files.write_frame(file, table, index, [])
    return path
