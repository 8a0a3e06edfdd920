"""One matrix of counts as every tool might have stored it: what a user uploads is one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import files


@dataclass(frozen=True)
class Original:
    """Counts of cells by genes, and who they are."""

    counts: sp.csr_matrix
    cells: list[str]
    genes: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.cells), len(self.genes)

    def anndata(self, matrix: Any = None, **more: Any) -> anndata.AnnData:
        stored = self.counts.copy() if matrix is None else matrix
        obs = pd.DataFrame({"sample": self._samples()}, index=pd.Index(self.cells))
        var = pd.DataFrame(index=pd.Index(self.genes))
        return anndata.AnnData(stored, obs=obs, var=var, **more)

    def _samples(self) -> pd.Categorical:
        return pd.Categorical(np.array(["a", "b"])[np.arange(len(self.cells)) % 2])


Rewrite = Callable[[Original, Path], str | None]
"""Writes a variant; returns the name of the layer with the counts, where it is not X."""
VARIANTS: dict[str, Rewrite] = {}


def _variant(name: str) -> Callable[[Rewrite], Rewrite]:
    def note(rewrite: Rewrite) -> Rewrite:
        VARIANTS[name] = rewrite
        return rewrite

    return note


# As anndata writes


def _written(change: Callable[[Original], anndata.AnnData], **how: Any) -> Rewrite:
    def rewrite(original: Original, path: Path) -> None:
        change(original).write_h5ad(path, **how)

    return rewrite


def _as_type(kind: str) -> Rewrite:
    return _written(lambda o: o.anndata(_fitting(o.counts, kind)))


def _fitting(counts: sp.csr_matrix, kind: str) -> sp.csr_matrix:
    """A type that cannot hold the largest count is what no tool would have chosen."""
    holds = counts.data.max() <= (np.iinfo(kind).max if np.dtype(kind).kind in "iu" else 2**24)
    return counts.astype(kind if holds else "int32")


VARIANTS |= {
    "csr": _written(lambda o: o.anndata()),
    "csc": _written(lambda o: o.anndata(o.counts.tocsc())),
    "dense": _written(lambda o: o.anndata(o.counts.toarray())),
    "csr gzip": _written(lambda o: o.anndata(), compression="gzip"),
    "csc gzip": _written(lambda o: o.anndata(o.counts.tocsc()), compression="gzip"),
    "dense gzip": _written(lambda o: o.anndata(o.counts.toarray()), compression="gzip"),
    "csr lzf": _written(lambda o: o.anndata(), compression="lzf"),
    "dense lzf": _written(lambda o: o.anndata(o.counts.toarray()), compression="lzf"),
    "csr zstd": _written(lambda o: o.anndata(), compression=hdf5plugin.FILTERS["zstd"]),
    "dense int16": _written(lambda o: o.anndata(o.counts.toarray().astype("int16"))),
    "dense int64": _written(lambda o: o.anndata(o.counts.toarray().astype("int64"))),
    **{f"csr {kind}": _as_type(kind) for kind in ("float64", "int32", "int64", "uint8", "uint16")},
    "csr uint32": _as_type("uint32"),
    "csr int8": _as_type("int8"),
}


@_variant("in raw")
def _raw_only(original: Original, path: Path) -> str:
    made = original.anndata()
    made.raw = original.anndata()
    made.X = None
    made.write_h5ad(path)
    return "raw/X"


@_variant("in a layer")
def _in_a_layer(original: Original, path: Path) -> str:
    logged = original.counts.astype("float64")
    logged.data = np.log1p(logged.data)
    original.anndata(logged, layers={"counts": original.counts}).write_h5ad(path)
    return "counts"


@_variant("in a dense layer, no X")
def _in_a_dense_layer(original: Original, path: Path) -> str:
    made = original.anndata(layers={"umi": original.counts.toarray()})
    made.X = None
    made.write_h5ad(path)
    return "layers/umi"


def _columns(original: Original) -> pd.DataFrame:
    every = np.arange(original.shape[0])
    return pd.DataFrame(
        {
            "ordered": pd.Categorical(np.array(["lo", "hi"])[every % 2], ["lo", "hi"], True),
            "gaps": pd.Categorical(np.array(["a", None], dtype=object)[every % 2]),
            "text": [f"t{i}" for i in every],
            "whole": every,
            "share": every / 7,
            "flag": every % 2 == 0,
            "maybe whole": pd.array([None if i % 3 else i for i in every], dtype="Int64"),
            "maybe flag": pd.array([None if i % 3 else True for i in every], dtype="boolean"),
            "maybe text": pd.array([None if i % 3 else "x" for i in every], dtype="string"),
            "number labels": pd.Categorical(every % 3),
        },
        index=original.cells,
    )


@_variant("every kind of column")
def _every_column(original: Original, path: Path) -> None:
    made = original.anndata()
    made.obs = _columns(original)
    with anndata.settings.override(allow_write_nullable_strings=True):
        made.write_h5ad(path)


@_variant("named indices")
def _named_indices(original: Original, path: Path) -> None:
    made = original.anndata()
    made.obs.index.name, made.var.index.name = "barcode", "symbol"
    made.write_h5ad(path)


@_variant("a great deal around it")
def _much_around(original: Original, path: Path) -> None:
    made = original.anndata()
    made.uns = {"pca": {"variance": np.ones(3)}, "colors": ["red"], "empty": {}, "none": None}
    made.obsm["X_umap"] = np.zeros((original.shape[0], 2))
    made.varm["PCs"] = np.zeros((original.shape[1], 2))
    made.obsp["distances"] = sp.csr_matrix((original.shape[0],) * 2)
    made.obsm["frame"] = pd.DataFrame({"a": np.ones(original.shape[0])}, index=original.cells)
    made.write_h5ad(path)


# As other tools and other times wrote


def _rewritten(change: Callable[[h5py.File, Original], object]) -> Rewrite:
    """The plain file, with its parts stored in another way."""

    def rewrite(original: Original, path: Path) -> None:
        original.anndata().write_h5ad(path)
        with h5py.File(path, "a") as file:
            change(file, original)

    return rewrite


def _store(group: h5py.Group, name: str, values: np.ndarray, **how: Any) -> None:
    del group[name]
    group.create_dataset(name, data=values, **how)


def _stored_as(**how: Any) -> Rewrite:
    def change(file: h5py.File, _: Original) -> None:
        for name in ("data", "indices", "indptr"):
            _store(file["X"], name, file["X"][name][...], **how)

    return _rewritten(change)


def _typed(name: str, kind: str) -> Rewrite:
    return _rewritten(lambda f, _: _store(f["X"], name, f["X"][name][...].astype(kind)))


VARIANTS |= {
    "contiguous": _stored_as(),
    "chunks of 7": _stored_as(chunks=(7,)),
    "one chunk larger than the data": _stored_as(chunks=(2**18,), maxshape=(None,)),
    "fletcher32": _stored_as(chunks=True, fletcher32=True),
    "shuffle and gzip 9": _stored_as(chunks=True, shuffle=True, compression=9),
    "shuffle, lzf, fletcher32": _stored_as(
        chunks=True, shuffle=True, compression="lzf", fletcher32=True
    ),
    "zstd of hdf5plugin": _stored_as(chunks=True, **hdf5plugin.Zstd()),
    "blosc of hdf5plugin": _stored_as(chunks=True, **hdf5plugin.Blosc()),
    "64-bit indptr": _typed("indptr", "<i8"),
    "64-bit indices": _typed("indices", "<i8"),
    "unsigned indices": _typed("indices", "<u4"),
    "big-endian data": _typed("data", ">f4"),
    "big-endian indices": _typed("indices", ">i4"),
    "big-endian indptr": _typed("indptr", ">i8"),
}


def _entries(change: Callable[[sp.csr_matrix], sp.csr_matrix]) -> Rewrite:
    def rewrite(file: h5py.File, original: Original) -> None:
        matrix = change(original.counts.copy())
        for name in ("data", "indices", "indptr"):
            _store(file["X"], name, getattr(matrix, name))

    return _rewritten(rewrite)


def _unsorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    order = np.lexsort((-matrix.indices, np.repeat(range(matrix.shape[0]), np.diff(matrix.indptr))))
    parts = (matrix.data[order], matrix.indices[order], matrix.indptr)
    return sp.csr_matrix(parts, shape=matrix.shape)


def _repeated(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Each entry in two parts, which add up; many halves are stored zeros."""
    half = np.floor(matrix.data / 2)
    parts = np.column_stack([half, matrix.data - half]).ravel()
    indices, indptr = np.repeat(matrix.indices, 2), matrix.indptr * 2
    return sp.csr_matrix((parts, indices, indptr), shape=matrix.shape)


VARIANTS |= {"unsorted": _entries(_unsorted), "entries in two parts": _entries(_repeated)}


@_variant("Fortran order")
def _fortran(original: Original, path: Path) -> None:
    original.anndata(np.asfortranarray(original.counts.toarray())).write_h5ad(path)


@_variant("dense, extendable, in chunks")
def _extendable(original: Original, path: Path) -> None:
    original.anndata(original.counts.toarray()).write_h5ad(path)
    with h5py.File(path, "a") as file:
        values, attributes = file["X"][...], dict(file["X"].attrs)
        shape = tuple(max(1, size // 3) for size in values.shape)
        _store(file, "X", values, chunks=shape, maxshape=(None, None), compression="gzip")
        file["X"].attrs.update(attributes)


@_variant("booleans")
def _booleans(original: Original, path: Path) -> str:
    """A binary matrix beside the counts, which is what the file is about for some."""
    original.anndata(original.counts.astype(bool), layers={"counts": original.counts}).write_h5ad(
        path
    )
    return "counts"


@_variant("indices of bytes")
def _bytes_index(original: Original, path: Path) -> None:
    original.anndata().write_h5ad(path)
    with h5py.File(path, "a") as file:
        for table, names in (("obs", original.cells), ("var", original.genes)):
            _store(file[table], "_index", np.array([name.encode() for name in names]))


@_variant("the newest file format")
def _newest(original: Original, path: Path) -> None:
    old = path.with_suffix(".old")
    original.anndata().write_h5ad(old)
    with h5py.File(old, "r") as source, h5py.File(path, "w", libver="latest") as made:
        made.attrs.update(source.attrs)
        for name in source:
            source.copy(name, made)


@_variant("anndata 0.7")
def _anndata_07(original: Original, path: Path) -> None:
    files.write_h5ad_07(path, original.counts.toarray())
    _rename(path, original)


@_variant("anndata 0.6")
def _anndata_06(original: Original, path: Path) -> None:
    _compound(path, original, "h5sparse-csr")


@_variant("anndata 0.6, CSC")
def _anndata_06_csc(original: Original, path: Path) -> None:
    _compound(path, original, "h5sparse-csc")


@_variant("anndata 0.6, dense")
def _anndata_06_dense(original: Original, path: Path) -> None:
    _compound(path, original, "dense")


def _rename(path: Path, original: Original) -> None:
    with h5py.File(path, "a") as file:
        _store(file["obs"], "_index", np.array(original.cells, dtype=object), dtype=files.TEXT)
        _store(file["var"], "_index", np.array(original.genes, dtype=object), dtype=files.TEXT)


def _compound(path: Path, original: Original, layout: str) -> None:
    """Tables are arrays of records with texts of a fixed length."""
    with h5py.File(path, "w") as file:
        files.write_matrix(file, "X", original.counts.toarray(), layout)
        for table, names in (("obs", original.cells), ("var", original.genes)):
            stored = [name.encode() for name in names]
            file[table] = np.array(
                [(n,) for n in stored], dtype=[("index", np.array(stored).dtype)]
            )
