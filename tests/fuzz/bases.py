"""Small sound files of many layouts and formats: what the fuzz damages."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.worker.intake import cell_ranger_files, files, market_files

CELLS, GENES = 60, 40
Write = Callable[[Path], object]


def _counts() -> np.ndarray:
    return files.counts(CELLS, GENES)


def _with_anndata(matrix: Any, **how: Any) -> Write:
    """Every kind of column that anndata writes, a raw matrix, a layer and more around it."""

    def write(path: Path) -> None:
        every = np.arange(CELLS)
        obs = pd.DataFrame(
            {
                "sample": pd.Categorical(np.array(["a", "b", "c"])[every % 3]),
                "depth": every / 2,
                "flag": every % 2 == 0,
                "maybe": pd.array([None if i % 7 == 0 else i for i in every], dtype="Int64"),
                "note": [f"n{i}" for i in every],
            },
            index=files.names("cell", CELLS),
        )
        var = pd.DataFrame({"kind": "rna"}, index=files.names("gene", GENES))
        made = anndata.AnnData(matrix, obs=obs, var=var, uns={"deep": {"er": [1, 2, 3]}})
        made.layers["counts"] = sp.csr_matrix(_counts())
        made.obsm["X_pca"] = np.ones((CELLS, 2), dtype=np.float32)
        made.raw = made.copy()
        made.write_h5ad(path, **how)

    return write


def _newest(path: Path) -> None:
    """The same objects as the newest file format stores them: other headers, heaps and trees."""
    old = path.with_suffix(".old")
    files.write_h5ad(old, _counts())
    with h5py.File(old, "r") as source, h5py.File(path, "w", libver="latest") as made:
        made.attrs.update(source.attrs)
        for name in source:
            source.copy(name, made)
    old.unlink()


def _checked(path: Path) -> None:
    """Chunks with shuffle, lzf and checksums."""
    files.write_h5ad(path, _counts())
    with h5py.File(path, "a") as file:
        for name in ("data", "indices", "indptr"):
            values = file[f"X/{name}"][...]
            del file[f"X/{name}"]
            file["X"].create_dataset(
                name, data=values, chunks=(32,), shuffle=True, fletcher32=True, compression="lzf"
            )


def _soft(path: Path) -> None:
    """X is a soft link to a layer, as some tools save space."""
    files.write_h5ad(path, _counts())
    with h5py.File(path, "a") as file:
        file.move("X", "layers/counts")
        file["X"] = h5py.SoftLink("/layers/counts")


def _h5mu(path: Path) -> None:
    """Two modalities over the same cells."""
    with h5py.File(path, "w") as file:
        for name, matrix in (("rna", _counts()), ("prot", files.counts(CELLS, 5, seed=1))):
            group = file.create_group(f"mod/{name}")
            files.write_matrix(group, "X", matrix, "csr")
            files.write_frame(group, "obs", files.names("cell", CELLS), [])
            files.write_frame(group, "var", files.names("gene", matrix.shape[1]), [])
        obs = files.write_frame(file, "obs", files.names("cell", CELLS), ["sample"])
        files.write_categorical(obs, "sample", [i % 2 for i in range(CELLS)], ["a", "b"])
        files.write_frame(file, "var", files.names("gene", GENES), [])


def _proteins(path: Path) -> None:
    """Proteins in obsm, as a DataFrame and as an array with its names in uns."""
    files.write_h5ad(path, _counts())
    proteins = files.counts(CELLS, 3, seed=2)
    with h5py.File(path, "a") as file:
        obsm = file.create_group("obsm")
        frame = files.write_frame(obsm, "adt", files.names("cell", CELLS), ["CD3", "CD4", "CD8"])
        for at, name in enumerate(("CD3", "CD4", "CD8")):
            frame[name] = proteins[:, at]
        files.write_matrix(obsm, "protein_tags", proteins / 2, "dense")
        file.create_dataset("uns/protein_names", data=["a", "b", "c"], dtype=files.TEXT)


def _unpaired(path: Path) -> None:
    """Genes, regions and proteins, each of other cells and in another order."""
    cells = files.names("cell", CELLS)
    parts = {"rna": (cells, GENES), "atac": ([*cells[::-1][:40], "x", "y"], 9), "prot": (cells, 3)}
    with h5py.File(path, "w") as file:
        for seed, (name, (own, width)) in enumerate(parts.items()):
            group = file.create_group(f"mod/{name}")
            matrix = files.counts(len(own), width, seed)
            files.write_matrix(group, "X", matrix, ("csr", "csc", "dense")[seed])
            obs = files.write_frame(group, "obs", own, ["sample"])
            files.write_categorical(obs, "sample", [i % 2 for i in range(len(own))], ["a", "b"])
            prefix = "gene" if name == "rna" else name
            files.write_frame(group, "var", files.names(prefix, width), [])


def _cell_ranger(path: Path) -> None:
    named = {"name": files.names("gene", GENES)}
    cell_ranger_files.write_v3(path, _counts(), extra=named, compression="gzip")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in market_files.triple(_counts()).items():
            archive.writestr(zipfile.ZipInfo(name), data)  # without the hour


BASES: dict[str, Write] = {
    "csr": lambda path: files.write_h5ad(path, _counts()),
    "csc": lambda path: files.write_h5ad(path, _counts(), "csc"),
    "dense": lambda path: files.write_h5ad(path, _counts(), "dense"),
    "old-06": lambda path: files.write_h5ad_06(path, _counts()),
    "old-06-csc": lambda path: files.write_h5ad_06(path, _counts(), "h5sparse-csc"),
    "old-07": lambda path: files.write_h5ad_07(path, _counts()),
    "anndata-csr": _with_anndata(sp.csr_matrix(_counts())),
    "anndata-csc-gzip": _with_anndata(sp.csc_matrix(_counts()), compression="gzip"),
    "anndata-dense-gzip": _with_anndata(_counts(), compression="gzip"),
    "anndata-lzf": _with_anndata(sp.csr_matrix(_counts()), compression="lzf"),
    "newest": _newest,
    "checked": _checked,
    "soft": _soft,
    "h5mu": _h5mu,
    "proteins": _proteins,
    "unpaired": _unpaired,
    "10x-v3": _cell_ranger,
    "10x-v2": lambda path: cell_ranger_files.write_v2(path, {"hg19": _counts()}),
}
ARCHIVES: dict[str, Write] = {
    "mtx.tar": lambda path: market_files.write_tar(path, market_files.triple(_counts()), "w"),
    "mtx.zip": lambda path: _zip(path),
}
"""What is no HDF5 file, and so can only be flipped."""


def write_bases(folder: Path, bases: dict[str, Write]) -> list[Path]:
    """One file of each layout, in their order; the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.h5ad" for name in bases]
    for path, write in zip(paths, bases.values(), strict=True):
        write(path)
    return paths
