"""The cells of a reference as an h5ad has them: counts, or latents alone; labels and a UMAP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import Dataset

from worker.intake import cells as obs_table
from worker.intake.attached import Attached, widened
from worker.intake.choice import Choice
from worker.intake.counts import Totals, write_counts
from worker.intake.features import FeatureTable
from worker.intake.findings import Findings, located, reading
from worker.intake.frames import FILES, Sink
from worker.intake.h5ad import H5ad
from worker.intake.kinds import require_h5ad
from worker.intake.limits import Limits
from worker.intake.look import look
from worker.intake.matrices import Matrix, locate
from worker.intake.rows import ENTRIES
from worker.intake.signature import check_signature
from worker.intake.source import Source, blocks
from worker.intake.tables import Table, column_names, read_table
from worker.intake.uncounted import tell_faults
from worker.intake.values import Survey, check_number_type
from worker.obs import listed

LATENT, VARIANCE, UMAP = "latent.f32", "variance.f32", "umap.f32"
CELLS_FILES = (*FILES, LATENT, VARIANCE, UMAP)
MEAN_SUFFIX, VARIANCE_SUFFIX = "latent_qzm", "latent_qzv"
"""What scvi-tools calls the posterior's mean and variance in the obsm of minified data."""


@dataclass(frozen=True)
class CellsRequest:
    """What is wanted of the file. Keys may be written as `X_umap` or as `obsm/X_umap`."""

    columns: list[str]
    n_latent: int
    layer: str | None = None
    input: str = "counts"
    latent_key: str | None = None
    umap_key: str | None = None
    proteins_key: str | None = None
    """The table of obsm that holds the proteins of the model; None: it has none."""
    protein_names_key: str | None = None
    known_proteins: tuple[str, ...] = ()
    """The model's proteins, for a table whose columns nothing in the file names."""
    own_latent_key: str | None = None
    """What the model calls its own latents, in the obsm of data that were minified for it."""


def read_cells(path: Path, request: CellsRequest, limits: Limits, sink: Sink) -> dict[str, Any]:
    """Prove the file and write what is wanted of it to the sink.

    Raises:
        Problem: the file is refused, or lacks what is wanted.
    """
    check_signature(path)
    with _opened(path) as file:
        findings = Findings()
        look(file, limits, findings)
        if (problem := findings.problem()) is not None:
            raise problem
        source = Source(file, limits)
        require_h5ad(source)
        return _Cells(source, request, sink).read()


@dataclass
class _Cells:
    source: Source
    request: CellsRequest
    sink: Sink

    def read(self) -> dict[str, Any]:
        findings = Findings()
        obs = read_table(self.source, "/obs", findings, only=self.request.columns)
        if len(obs) == 0:
            raise located(
                "unfit-cells",
                "/obs",
                "The file has no cells.",
                "Give the file with the reference's cells, or leave them out (--no-cells).",
            )
        facts: dict[str, Any] = {
            "n_cells": len(obs),
            "obs_columns": column_names(self.source, "/obs"),
            "unread": obs.unread,
        }
        latent = self._latent_key()
        facts |= self._counts(obs) if latent is None else self._latents(latent, len(obs))
        if self.request.umap_key is not None:
            facts["n_umap"] = self._numbers(self.request.umap_key, UMAP, len(obs))
        self.sink.write("obs.arrow", obs_table.as_arrow(obs))
        return facts

    def _latent_key(self) -> str | None:
        """The array of latents to take, or None where there are counts to encode."""
        if self.request.latent_key is not None:
            return self.request.latent_key
        if self.request.layer is not None or _holds_counts(self.source):
            return None
        means = [key for key in self.source.keys("/obsm") if key.endswith(MEAN_SUFFIX)]
        own = self.request.own_latent_key
        if own in means:
            return own
        if len(means) == 1:
            return means[0]
        raise located(
            "unfit-cells",
            "/X",
            "The file holds neither counts in X nor latents that scvi-tools stored beside them. "
            f"Its obsm has: {listed(self.source.keys('/obsm')) or 'nothing'}.",
            "Name the latents with --latent-key, or the counts with --layer.",
        )

    def _counts(self, obs: Table) -> dict[str, Any]:
        matrix = locate(self.source, self.request.layer)
        var = read_table(self.source, matrix.var_path, Findings())
        if matrix.shape != (len(obs), len(var)):
            raise located(
                "unfit-cells",
                matrix.path,
                f"`{matrix.name}` is {matrix.shape[0]:,} x {matrix.shape[1]:,}, but the file names "
                f"{len(obs):,} cells and {len(var):,} genes.",
                "Write the file again with write_h5ad.",
            )
        query, proteins = self._query(), list[Attached]()
        if self.request.proteins_key is not None:
            proteins = query.attached(obs, Findings())
        totals = self._prove(query, matrix, (obs, var), proteins)
        self._write_genes(var, proteins)
        return {
            "counts_from": matrix.name,
            "n_genes": len(var) + sum(each.width for each in proteins),
            "nnz": totals.nnz,
        }

    def _query(self) -> H5ad:
        asked = self.request
        choice = Choice(
            proteins=asked.proteins_key,
            protein_names=asked.protein_names_key,
            known_proteins=tuple(asked.known_proteins),
        )
        return H5ad(self.source, "", choice)

    def _prove(
        self,
        query: H5ad,
        matrix: Matrix,
        tables: tuple[Table, Table],
        proteins: Sequence[Attached],
    ) -> Totals:
        findings, (n_cells, n_genes) = Findings(), matrix.shape
        survey = Survey(whole=self.request.input == "counts")
        blocks = widened(query.blocks(matrix, survey), n_genes, proteins, self.source.limits)
        shape = (n_cells, n_genes + sum(each.width for each in proteins))
        totals = write_counts(blocks, shape, self.sink, survey)
        tell_faults(query, matrix, survey, tables, findings)
        if (problem := findings.problem()) is not None:
            raise problem
        return totals

    def _latents(self, key: str, n_cells: int) -> dict[str, Any]:
        self._write_genes(read_table(self.source, "/var", Findings()))
        width = self._numbers(key, LATENT, n_cells)
        if width != self.request.n_latent:
            raise located(
                "unfit-cells",
                _place(key),
                f"`{_place(key)[1:]}` has {width} columns, but the model has "
                f"{self.request.n_latent} latent dimensions.",
                "Name the latents of this model with --latent-key.",
            )
        facts: dict[str, Any] = {"latent_from": _place(key)[1:]}
        variance = key.removesuffix(MEAN_SUFFIX) + VARIANCE_SUFFIX
        if key.endswith(MEAN_SUFFIX) and self.source.is_dataset(_place(variance)):
            facts["n_variance"] = self._numbers(variance, VARIANCE, n_cells)
        return facts

    def _write_genes(self, var: Table, proteins: Sequence[Attached] = ()) -> None:
        self.sink.write("genes.json", FeatureTable.of(var, proteins, Findings()).as_json())

    def _numbers(self, key: str, name: str, n_cells: int) -> int:
        """Stream an array of obsm to the sink as float32; how many columns it has."""
        path = _place(key)
        if not self.source.is_dataset(path):
            held = listed(self.source.keys("/obsm")) or "nothing"
            raise located(
                "unfit-cells",
                path,
                f"The file has no array `{path[1:]}`. Its obsm has: {held}.",
                "Name an array of obsm.",
            )
        dataset = self.source.dataset(path)
        if dataset.ndim != 2 or dataset.shape[0] != n_cells:
            raise located(
                "unfit-cells",
                path,
                f"`{path[1:]}` has the shape {dataset.shape}, not a row for each of the "
                f"{n_cells:,} cells.",
                "Name an array of obsm with one row for each cell.",
            )
        if dataset.shape[1] == 0:
            raise located(
                "unfit-cells", path, f"`{path[1:]}` has no columns.", "Name another array of obsm."
            )
        check_number_type(dataset.dtype, path)
        for block in _float_blocks(dataset, path):
            if not np.isfinite(block).all():
                raise located(
                    "unfit-cells",
                    path,
                    f"`{path[1:]}` holds numbers that are not finite.",
                    "Leave out the cells that have none, or name another array.",
                )
            self.sink.write(name, block)
        return int(dataset.shape[1])


def _opened(path: Path) -> h5py.File:
    with reading("/"):
        return h5py.File(path, "r", locking=False)


def _place(key: str) -> str:
    return f"/obsm/{key.strip('/').removeprefix('obsm/')}"


def _holds_counts(source: Source) -> bool:
    """Whether X holds anything; minified data keep it as a sparse matrix without an entry."""
    if not source.has("/X"):
        return False
    if source.is_group("/X"):
        return bool(source.dataset("/X/data").size)
    return True


def _float_blocks(dataset: Dataset, path: str) -> Iterator[np.ndarray[Any, Any]]:
    step = max(1, ENTRIES // max(1, int(dataset.shape[1])))
    for first, last in blocks(int(dataset.shape[0]), step):
        with reading(path):
            yield np.ascontiguousarray(dataset[first:last], dtype="<f4")
