"""Result files: the latent in three formats, the annotated h5ad, and the query weights.

The same input gives the same bytes: no time stamps, no hash-ordered keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from safetensors.torch import save
from torch import Tensor

from models_store import feature_kinds
from models_store.feature_kinds import FeatureKind, kinds_of
from models_store.gene_columns import GeneColumn
from worker.canonical import CanonicalQuery
from worker.csv_text import ROWS, csv_header, csv_rows
from worker.names import free_name
from worker.packed_counts import ARRAYS, LEVEL, PackedCounts, chunk_length
from worker.predictions import LABEL, PROBABILITY

LATENT = "X_latent"
TYPES = "feature_types"
"""What var says of features that are not all genes."""
BATCH, EMPTY, CELL = "cellgraft_batch", "cellgraft_empty", "cellgraft_cell"
"""What a mapping adds to obs, under these names unless the query has such columns."""
ENCODED_CSR = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
LENGTH_BYTES = 8
"""Of the header's length, which begins a safetensors file; the header is padded to a multiple."""


def write_latent(
    out: Path, cell_names: Sequence[str] | pd.Index, latent: np.ndarray[Any, Any]
) -> None:
    """latent.npy, latent.parquet and latent.csv: one row a cell, in the query's order."""
    values = np.ascontiguousarray(latent, dtype=np.float32)
    names = [f"latent_{dimension}" for dimension in range(values.shape[1])]
    index = pd.Index(list(cell_names), dtype=object, name="cell")
    np.save(out / "latent.npy", values)
    pd.DataFrame(values, index=index, columns=names).to_parquet(out / "latent.parquet", index=True)
    with (out / "latent.csv").open("wb") as csv:
        csv.write(csv_header(["cell", *names]))
        for start in range(0, len(values), ROWS):
            rows = slice(start, start + ROWS)
            csv.write(csv_rows([index[rows].tolist(), *values[rows].T]))


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file whose metadata is sorted: the library leaves its order to chance."""
    packed = save({name: rows.cpu().contiguous() for name, rows in weights.items()}, dict(metadata))
    start = LENGTH_BYTES + int.from_bytes(packed[:LENGTH_BYTES], "little")
    header = json.loads(packed[LENGTH_BYTES:start])
    header["__metadata__"] = dict(sorted(metadata.items()))
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % LENGTH_BYTES)
    path.write_bytes(len(told).to_bytes(LENGTH_BYTES, "little") + told + packed[start:])


def added_columns(
    obs: pd.DataFrame, *, labelled: bool = False, repeated: bool = False
) -> dict[str, str]:
    """The names under which a mapping's columns join those of obs, of which none is replaced."""
    taken = {str(name) for name in (*obs.columns, obs.index.name)}
    added = [BATCH, EMPTY] + [LABEL, PROBABILITY] * labelled + [CELL] * repeated
    return {name: free_name(name, taken) for name in added}


def write_annotated_h5ad(
    path: Path,
    canonical: CanonicalQuery,
    packed: PackedCounts,
    obs: pd.DataFrame,
    latent: np.ndarray[Any, Any],
) -> None:
    """The query as uploaded, its counts and cells in order, with the latent in obsm.

    The counts stream from disk.
    """
    with h5py.File(path, "w") as file, _nullable_strings():
        _encode(file, {"encoding-type": "anndata", "encoding-version": "0.1.0"})
        _write_counts(file, canonical, packed)
        anndata.io.write_elem(file, "obs", obs)
        anndata.io.write_elem(file, "var", _var(canonical))
        values = np.ascontiguousarray(latent, dtype=np.float32)
        anndata.io.write_elem(file, "obsm", {LATENT: values})
        for empty in ("layers", "obsp", "uns", "varm", "varp"):
            anndata.io.write_elem(file, empty, {})


def _nullable_strings() -> Any:
    # A nullable column comes back as it was uploaded; anndata before 0.11 cannot read those.
    return anndata.settings.override(allow_write_nullable_strings=True)


def _encode(group: h5py.Group, attributes: dict[str, str]) -> None:
    for name, value in attributes.items():
        group.attrs[name] = value


def _write_counts(file: h5py.File, canonical: CanonicalQuery, packed: PackedCounts) -> None:
    group = file.create_group("X")
    _encode(group, ENCODED_CSR)
    group.attrs["shape"] = np.array([canonical.n_cells, canonical.n_genes], dtype=np.int64)
    group.create_dataset("indptr", data=canonical.indptr)
    length = chunk_length(canonical.nnz)
    # A chunk may be longer than an array without a value only where that array could grow.
    layout = {"chunks": (length,), "maxshape": (None,)}
    filters = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": True}
    for name in ARRAYS:
        values = getattr(canonical, name)
        stored = group.create_dataset(
            name, shape=values.shape, dtype=values.dtype, **layout, **filters
        )
        number = 0
        for chunk in packed.chunks(name):
            stored.id.write_direct_chunk((number * length,), chunk)
            number += 1
        if number != -(-canonical.nnz // length):
            raise ValueError(f"{number} chunks of {name} are not all of the query's counts")


def annotated_obs(obs: pd.DataFrame, added: Mapping[str, Any]) -> pd.DataFrame:
    """The columns as uploaded, then those of a mapping; see `added_columns`."""
    whole = obs.copy(deep=False)
    if whole.index.name in whole.columns:  # which anndata refuses
        whole.index = whole.index.rename(None)
    for name, values in added.items():
        whole[name] = pd.Series(values).to_numpy()
    return whole


def _var(canonical: CanonicalQuery) -> pd.DataFrame:
    columns, types = canonical.gene_columns(), canonical.feature_types()
    names = columns.pop("index")
    if types is not None and set(kinds := kinds_of(types)) != {"gene"}:
        names = _told_apart(names, kinds)
        are_genes = GeneColumn(canonical.gene_columns()["index"]).names_genes
        untold = feature_kinds.TYPES["gene"] if are_genes else ""
        columns[free_name(TYPES, columns)] = [each or untold for each in types]
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object))


def _told_apart(names: Sequence[str], kinds: Sequence[FeatureKind | None]) -> list[str]:
    """What is no gene and is called as one gets its kind behind its name: `CD4-protein`.

    Names that genes share stay as they were uploaded.
    """
    taken = {name for name, kind in zip(names, kinds, strict=True) if kind == "gene"}
    found = []
    for name, kind in zip(names, kinds, strict=True):
        if kind != "gene":
            name = free_name(f"{name}-{kind}" if kind and name in taken else name, taken)
            taken.add(name)
        found.append(name)
    return found
