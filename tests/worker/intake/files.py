"""h5ad files written by hand, in the layouts of every anndata, sound unless a test breaks them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.sparse as sp

CELLS, GENES = 12, 8
TEXT = h5py.string_dtype()


def counts(cells: int = CELLS, genes: int = GENES, seed: int = 0) -> np.ndarray:
    """Small counts with zeros, every cell and the matrix not empty."""
    rng = np.random.default_rng(seed)
    found = rng.poisson(1.2, size=(cells, genes)).astype(np.float32)
    found[:, 0] += 1
    return found


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(number)]


def write_matrix(parent: h5py.Group, name: str, matrix: np.ndarray, layout: str) -> None:
    """csr, csc or dense as written today; h5sparse-csr and h5sparse-csc as anndata 0.6 did."""
    if layout == "dense":
        stored = parent.create_dataset(name, data=matrix)
        stored.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        return
    kind = layout.removeprefix("h5sparse-")
    compressed = sp.csr_matrix(matrix) if kind == "csr" else sp.csc_matrix(matrix)
    group = parent.create_group(name)
    if layout == kind:
        group.attrs.update({"encoding-type": f"{kind}_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = np.array(matrix.shape)
    else:
        group.attrs["h5sparse_format"] = kind
        group.attrs["h5sparse_shape"] = np.array(matrix.shape)
    for part in ("data", "indices", "indptr"):
        group.create_dataset(part, data=getattr(compressed, part), maxshape=(None,))


def write_frame(parent: h5py.Group, name: str, index: list[str], columns: list[str]) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", columns, dtype=TEXT, shape=(len(columns),))
    group.create_dataset("_index", data=index, dtype=TEXT)
    return group


def write_categorical(
    frame: h5py.Group, name: str, codes: list[int], categories: list[str], ordered: bool = False
) -> None:
    group = frame.create_group(name)
    group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0"})
    group.attrs["ordered"] = ordered
    group.create_dataset("codes", data=np.array(codes, dtype=np.int8))
    group.create_dataset("categories", data=categories, dtype=TEXT)


def write_h5ad(path: Path, matrix: np.ndarray | None = None, layout: str = "csr") -> Path:
    """A sound file of today's layout with one categorical column, `sample`."""
    matrix = counts() if matrix is None else matrix
    n_cells, n_genes = matrix.shape
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_matrix(file, "X", matrix, layout)
        obs = write_frame(file, "obs", names("cell", n_cells), ["sample"])
        write_categorical(obs, "sample", [i % 2 for i in range(n_cells)], ["a", "b"])
        write_frame(file, "var", names("gene", n_genes), [])
    return path


def write_h5ad_07(path: Path, matrix: np.ndarray) -> Path:
    """anndata 0.7: categories beside the columns, tables of encoding 0.1.0."""
    write_h5ad(path, matrix)
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        obs.attrs["encoding-version"] = "0.1.0"
        del obs["sample"]
        codes = np.arange(len(matrix), dtype=np.int8) % 2
        stored = obs.create_dataset("sample", data=codes)
        kept = obs.create_dataset("__categories/sample", data=["a", "b"], dtype=TEXT)
        kept.attrs["ordered"] = True
        stored.attrs["categories"] = kept.ref
    return path


def write_h5ad_06(path: Path, matrix: np.ndarray, layout: str = "h5sparse-csr") -> Path:
    """anndata 0.6: tables are arrays of records, categories lie in uns, raw has a full stop."""
    n_cells, n_genes = matrix.shape
    with h5py.File(path, "w") as file:
        write_matrix(file, "X", matrix, layout)
        write_matrix(file, "raw.X", matrix + 1, layout)
        obs = np.zeros(n_cells, dtype=[("index", "S16"), ("depth", "<f4"), ("sample", "i1")])
        obs["index"], obs["depth"] = names("cell", n_cells), matrix.sum(axis=1)
        obs["sample"] = np.arange(n_cells) % 2
        file["obs"] = obs
        file["uns/sample_categories"] = np.array([b"a", b"b"])
        var = np.array(
            [(name.encode(),) for name in names("gene", n_genes)], dtype=[("index", "S16")]
        )
        file["var"], file["raw.var"] = var, var
    return path
