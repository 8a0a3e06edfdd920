"""The cells of a reference, of an h5ad or h5mu: counts, or latents alone; labels and a UMAP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from h5py import Dataset

from models_store.scvi_features import ModalityOfSave
from worker.intake import cells as obs_table
from worker.intake.attached import Attached, widened
from worker.intake.choice import Choice
from worker.intake.counts import Totals, write_counts
from worker.intake.features import FeatureTable
from worker.intake.findings import Findings, located, reading
from worker.intake.frames import FILES, Sink
from worker.intake.h5ad import H5ad
from worker.intake.h5mu import H5mu, open_modality
from worker.intake.kinds import require_tables
from worker.intake.limits import Limits
from worker.intake.look import look
from worker.intake.matrices import Matrix
from worker.intake.modalities import Named
from worker.intake.rows import ENTRIES
from worker.intake.signature import check_signature
from worker.intake.source import Source, blocks
from worker.intake.tables import Table, column_names, read_table
from worker.intake.uncounted import tell_faults
from worker.intake.values import Survey, check_number_type
from worker.obs import listed

NEEDED = "Give the file that the model was trained on, with raw counts in each of its modalities."
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
    modalities: Sequence[ModalityOfSave] = ()
    """Of the MuData that the model was trained on, the first of them the one whose cells count."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """From JSON."""
        modalities = [ModalityOfSave(**each) for each in told["modalities"]]
        return cls(**{**told, "modalities": modalities})


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
        require_tables(source)
        return _Cells(_file(source, request), request, sink).read()


def _file(source: Source, request: CellsRequest) -> H5ad:
    if not source.has("/mod"):
        names, known = request.protein_names_key, tuple(request.known_proteins)
        choice = Choice(proteins=request.proteins_key, protein_names=names, known_proteins=known)
        return H5ad(source, "", choice)
    # A table of obsm that held the proteins is a modality here.
    if not request.modalities:
        return open_modality(source, Choice())
    held = source.keys("/mod")
    for each in request.modalities:
        if each.name not in held:
            raise located(
                "unfit-cells",
                "/mod",
                f"The model was trained on modality {each.name!r}; the file has {listed(held)}.",
                "Give the file that the model was trained on.",
            )
    main, *others = (Named(each.name, each.kind, each.layer) for each in request.modalities)
    return H5mu(source, main, others, Choice())


@dataclass
class _Cells:
    file: H5ad
    request: CellsRequest
    sink: Sink

    @property
    def source(self) -> Source:
        return self.file.source

    def read(self) -> dict[str, Any]:
        obs, held = self._obs()
        if len(obs) == 0:
            raise located(
                "unfit-cells",
                "/obs",
                "The file has no cells.",
                "Give the file with the reference's cells, or leave them out (--no-cells).",
            )
        facts: dict[str, Any] = {
            "n_cells": len(obs),
            "obs_columns": held,
            "unread": obs.unread,
        }
        latent = self._latent_key()
        facts |= self._counts(obs) if latent is None else self._latents(latent, len(obs))
        if self.request.umap_key is not None:
            facts["n_umap"] = self._numbers(self.request.umap_key, UMAP, len(obs))
        self.sink.write("obs.arrow", obs_table.as_arrow(obs))
        return facts

    def _obs(self) -> tuple[Table, list[str]]:
        """The columns that are wanted, and the names of all."""
        if not isinstance(self.file, H5mu):
            table = read_table(self.source, "/obs", Findings(), only=self.request.columns)
            return table, column_names(self.source, "/obs")
        # Some of its columns are those of a modality, some those of the table of all.
        whole = self.file.cells(Findings())
        wanted = [each for each in whole.columns if each.name in self.request.columns]
        return replace(whole, columns=wanted), [each.name for each in whole.columns]

    def _latent_key(self) -> str | None:
        """The array of latents to take, or None where there are counts to encode."""
        if self.request.latent_key is not None:
            return self.request.latent_key
        if self.request.layer is not None or self._holds_counts():
            return None
        means = [key for key in self._tables() if key.endswith(MEAN_SUFFIX)]
        own = [key for key in means if key == self.request.own_latent_key]
        if len(found := own or means) == 1:
            return found[0]
        raise located(
            "unfit-cells",
            "/X",
            "The file holds neither counts in X nor latents that scvi-tools stored beside them. "
            f"Its obsm has: {listed(self._tables()) or 'nothing'}.",
            "Name the latents with --latent-key, or the counts with --layer.",
        )

    def _tables(self) -> list[str]:
        return self.source.keys(f"{self.file.root}/obsm")

    def _holds_counts(self) -> bool:
        """Whether X holds anything; minified data keep it as a sparse matrix without an entry."""
        place = f"{self.file.root}/X"
        if not self.source.has(place):
            return False
        if self.source.is_group(place):
            return bool(self.source.dataset(f"{place}/data").size)
        return True

    def _counts(self, obs: Table) -> dict[str, Any]:
        layer = self.file.main.layer if isinstance(self.file, H5mu) else None
        matrix = self.file.locate(self.request.layer or layer)
        var = self.file.genes(matrix, Findings())
        if matrix.shape != (len(obs), len(var)):
            raise located(
                "unfit-cells",
                matrix.path,
                f"`{matrix.name}` is {matrix.shape[0]:,} x {matrix.shape[1]:,}, but the file names "
                f"{len(obs):,} cells and {len(var):,} genes.",
                "Write the file again with write_h5ad.",
            )
        beside = self._beside(obs)
        totals = self._prove(matrix, (obs, var), beside)
        self._write_genes(var, beside)
        return {
            "counts_from": matrix.name,
            "n_genes": len(var) + sum(each.width for each in beside),
            "nnz": totals.nnz,
        }

    def _beside(self, obs: Table) -> list[Attached]:
        """Features that do not stand in the matrix, where the model needs some."""
        if isinstance(self.file, H5mu):
            findings = Findings()
            found = self.file.attached(obs, findings)
            if self.request.modalities:
                _refuse_left_out(findings)
            return found
        return [] if self.request.proteins_key is None else self.file.attached(obs, Findings())

    def _prove(
        self, matrix: Matrix, tables: tuple[Table, Table], beside: Sequence[Attached]
    ) -> Totals:
        findings, (n_cells, n_genes) = Findings(), matrix.shape
        survey = Survey(whole=self.request.input == "counts")
        blocks = widened(self.file.blocks(matrix, survey), n_genes, beside, self.source.limits)
        shape = (n_cells, n_genes + sum(each.width for each in beside))
        totals = write_counts(blocks, shape, self.sink, survey)
        tell_faults(self.file, matrix, survey, tables, findings)
        if (problem := findings.problem()) is not None:
            raise problem
        return totals

    def _latents(self, key: str, n_cells: int) -> dict[str, Any]:
        self._write_genes(self.file.genes(None, Findings()))
        width = self._numbers(key, LATENT, n_cells)
        if width != self.request.n_latent:
            raise located(
                "unfit-cells",
                self._place(key),
                f"`{self._place(key)[1:]}` has {width} columns, but the model has "
                f"{self.request.n_latent} latent dimensions.",
                "Name the latents of this model with --latent-key.",
            )
        facts: dict[str, Any] = {"latent_from": self._place(key)[1:]}
        variance = key.removesuffix(MEAN_SUFFIX) + VARIANCE_SUFFIX
        if key.endswith(MEAN_SUFFIX) and self.source.is_dataset(self._place(variance)):
            facts["n_variance"] = self._numbers(variance, VARIANCE, n_cells)
        return facts

    def _write_genes(self, var: Table, proteins: Sequence[Attached] = ()) -> None:
        self.sink.write("genes.json", FeatureTable.of(var, proteins, Findings()).as_json())

    def _place(self, key: str) -> str:
        return f"{self.file.root}/obsm/{key.strip('/').removeprefix('obsm/')}"

    def _numbers(self, key: str, name: str, n_cells: int) -> int:
        """Stream an array of obsm to the sink as float32; how many columns it has."""
        path = self._place(key)
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


def _refuse_left_out(findings: Findings) -> None:
    """What a query may do without, the cells of a model may not."""
    for each in findings.every:
        if each.code == "features-left-out":
            raise located("unfit-cells", each.pointer, each.detail, NEEDED)


def _float_blocks(dataset: Dataset, path: str) -> Iterator[np.ndarray[Any, Any]]:
    step = max(1, ENTRIES // max(1, int(dataset.shape[1])))
    for first, last in blocks(int(dataset.shape[0]), step):
        with reading(path):
            yield np.ascontiguousarray(dataset[first:last], dtype="<f4")
