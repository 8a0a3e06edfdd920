"""Matrices in Matrix Market form, packed in every way, sound unless a test breaks them."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from . import cell_ranger_files as made
from . import files

FOLDER = "run/outs/filtered_feature_bc_matrix"
Contents = dict[str, bytes]


def market(matrix: np.ndarray, *, order: str = "cells", turned: bool = False) -> bytes:
    """Genes by cells, the entries in the order of cells, genes, or none."""
    stored = matrix if turned else matrix.T
    cells, genes = np.nonzero(matrix)
    values = matrix[cells, genes].astype(int)
    if order == "genes":
        by = np.lexsort((cells, genes))
    elif order == "none":
        by = np.random.default_rng(0).permutation(len(cells))
    else:
        by = np.arange(len(cells))
    rows, columns = (cells, genes) if turned else (genes, cells)
    lines = [f"{rows[at] + 1} {columns[at] + 1} {values[at]}" for at in by]
    head = f"%%MatrixMarket matrix coordinate integer general\n%made here\n{stored.shape[0]} "
    return f"{head}{stored.shape[1]} {len(lines)}\n{chr(10).join(lines)}\n".encode()


def triple(matrix: np.ndarray | None = None, *, text: bytes | None = None) -> Contents:
    matrix = files.counts() if matrix is None else matrix
    n_cells, n_genes = matrix.shape
    features = zip(made.gene_ids(n_genes), made.symbols(n_genes), strict=True)
    return {
        "matrix.mtx": market(matrix) if text is None else text,
        "features.tsv": "".join(f"{a}\t{b}\tGene Expression\n" for a, b in features).encode(),
        "barcodes.tsv": "".join(f"{each}\n" for each in made.barcodes(n_cells)).encode(),
    }


def gzipped(contents: Contents) -> Contents:
    return {f"{name}.gz": gzip.compress(data) for name, data in contents.items()}


def in_folder(contents: Contents, folder: str = FOLDER) -> Contents:
    return {f"{folder}/{name}": data for name, data in contents.items()}


def write_tar(path: Path, contents: Contents, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, contents: Contents, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path
