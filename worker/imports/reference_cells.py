"""The reference's own cells: read in the sandbox, matched to the model, ready to be written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.problems import UnfitCells, UnknownBatchColumn, UnknownLabelsColumn
from models_store.gene_names import NO_NAME
from models_store.gene_panel import Genes
from models_store.manifest import LabelLevel, Manifest
from models_store.scvi_weights import ConvertedModel
from worker.alignment import AlignedCounts
from worker.canonical import CanonicalQuery
from worker.cell_columns import is_taken, refuse_taken
from worker.covariates import design_query
from worker.imports.cell_sources import CellSource, EncodedCells, StoredLatents
from worker.imports.cell_table import Categories, CellColumns, Float32
from worker.imports.cells import UMAP, CellsRequest
from worker.imports.order import ImportOrder, Report
from worker.imports.reader import read_cells_apart
from worker.known_cells import KnownCells
from worker.obs import category_names, find_column, listed
from worker.panel import MOSTLY, named_genes

MOST_TOLD = 64 * 1024
"""Bytes of names of proteins that the reader is told; Linux ends an argument at 128 KiB."""


@dataclass(frozen=True)
class ReferenceCells:
    """Cells with their columns, and where their latents come from."""

    columns: CellColumns
    source: CellSource
    labels: tuple[LabelLevel, ...]
    genes: Genes
    facts: dict[str, Any]
    known: KnownCells | None = None
    """Where there are counts and a column of batches."""

    def describe(self, draft: Manifest) -> Manifest:
        """The manifest with what the cells add to it."""
        n_cells = len(self.columns.names)
        provenance = draft.provenance.model_copy(update={"n_cells": n_cells})
        found = {"labels": self.labels, "genes": self.genes, "provenance": provenance}
        return draft.model_copy(update=found)


def read_reference_cells(
    order: ImportOrder, model: ConvertedModel, draft: Manifest, report: Report
) -> ReferenceCells | None:
    """The cells that were asked for or stand beside the save; None for none.

    Raises:
        Problem: the file is refused, or its cells are not those of the model.
    """
    options = order.options.cells
    path = options.path or order.found.cells
    if path is None or options.left_out:
        return None
    folder = order.scratch / "cells"
    request = _request(order, model)
    facts = read_cells_apart(
        path,
        request,
        folder,
        order.limits,
        lambda share: report("reading the cells", 0.4 * share),
        order.layers,
    )
    table = CanonicalQuery(
        folder=folder,
        n_cells=facts["n_cells"],
        n_genes=facts.get("n_genes", 0),
        nnz=facts.get("nnz", 0),
        input=request.input,
        counts_from=facts.get("counts_from", ""),
        dropped={},
    )
    return _Reading(order, model, draft, table, facts, table.obs()).cells()


def _request(order: ImportOrder, model: ConvertedModel) -> CellsRequest:
    options, save = order.options.cells, model.save
    columns = {options.batch_key or save.batch.key, *options.labels_keys}
    columns |= {covariate.key for covariate in save.extra_covariates}
    columns |= set(save.continuous_covariates)
    if save.labels is not None:
        columns.add(save.labels.key)
    return CellsRequest(
        columns=sorted(column for column in columns if column is not None),
        n_latent=model.architecture.n_latent,
        layer=options.layer or save.layer,
        input="continuous" if model.architecture.likelihood == "normal" else "counts",
        latent_key=options.latent_key,
        umap_key=options.umap_key,
        proteins_key=save.proteins_key,
        protein_names_key=save.protein_names_key,
        known_proteins=_told(save.proteins),
        own_latent_key=save.latent_key,
        modalities=save.modalities,
    )


def _told(proteins: tuple[str, ...]) -> tuple[str, ...]:
    """Their names, unless they are more than an argument of a process holds."""
    return proteins if len(json.dumps(proteins)) <= MOST_TOLD else ()


@dataclass(frozen=True)
class _Reading:
    order: ImportOrder
    model: ConvertedModel
    draft: Manifest
    table: CanonicalQuery
    facts: dict[str, Any]
    obs: pd.DataFrame

    def cells(self) -> ReferenceCells:
        labels = self._labels()
        columns = CellColumns(
            names=self.obs.index.astype(str),
            batch=self._batch(),
            labels={level.key: self._values(level) for level in labels},
            umap=self._umap(),
        )
        source = self._encoded(columns) if "nnz" in self.facts else self._stored()
        known = self._known(source, labels)
        return ReferenceCells(columns, source, labels, self._genes(), self.facts, known)

    def _known(self, source: CellSource, labels: tuple[LabelLevel, ...]) -> KnownCells | None:
        if not isinstance(source, EncodedCells) or self.batch_key is None:
            return None
        labelled = self.draft.model_copy(update={"labels": labels})
        return KnownCells.of(
            labelled, source.counts, self.obs, batch_key=self.batch_key, condition_key=None
        )

    @property
    def batch_key(self) -> str | None:
        return self.order.options.cells.batch_key or self.draft.batch.key

    def _batch(self) -> Categories:
        known = self.draft.batch.categories
        if self.batch_key is None:
            return pd.Categorical(np.full(len(self.obs), known[0], object), categories=list(known))
        fix = "Say with --batch-key what the column of the batches is called in this file."
        column = self._column(self.batch_key, UnknownBatchColumn, fix)
        names = category_names(column)
        self._refuse_strangers(names, known, f"batches of obs[{self.batch_key!r}]")
        return pd.Categorical(names, categories=list(known))

    def _refuse_strangers(self, names: pd.Series, known: Sequence[str], what: str) -> None:
        strangers = sorted(set(names.unique()) - set(known))
        if strangers:
            raise UnfitCells(
                f"{len(strangers)} {what} are none of the model's: {listed(strangers, most=5)}. "
                f"The model knows {listed(known, most=10)}.",
                fix="Give the cells that the model was trained on, under the names that it knows.",
            )

    def _column(self, key: str, kind: Any, fix: str) -> pd.Series:
        held = listed(self.facts["obs_columns"])
        detail = f"The cells' obs has no column {key!r}. It has: {held}."
        return find_column(self.obs, key, kind, fix=fix, detail=detail)

    def _labels(self) -> tuple[LabelLevel, ...]:
        """The levels asked for, in order; first the model's own where the network needs it."""
        own = self.model.save.labels
        keys = list(self.order.options.cells.labels_keys)
        needs_own = self.model.kind == "scanvi" or self.model.architecture.dispersion_by_label
        if own is not None and (needs_own or (not keys and self._may_bring(own.key))):
            keys = [own.key, *(key for key in keys if key != own.key)]
        fix = "Name one of these columns with --labels-key."
        levels = []
        for key in dict.fromkeys(keys):
            self._refuse_taken(key)
            column = self._column(key, UnknownLabelsColumn, fix)
            if own is not None and key == own.key and needs_own:
                levels.append(own)
                continue
            levels.append(
                LabelLevel(key=key, categories=tuple(sorted(category_names(column).unique())))
            )
        return tuple(levels)

    def _may_bring(self, key: str) -> bool:
        """Whether labels that nobody asked for, nor needs, can stand in the table."""
        return key in self.obs.columns and not is_taken(key)

    def _refuse_taken(self, key: str) -> None:
        asked = key in self.order.options.cells.labels_keys
        fix = "Name another column with --labels-key, or rename this one in the cells' obs."
        refuse_taken(key, UnfitCells, fix=fix if asked else "Import without cells (--no-cells).")

    def _values(self, level: LabelLevel) -> Categories:
        return pd.Categorical(category_names(self.obs[level.key]))

    def _umap(self) -> Float32 | None:
        if "n_umap" not in self.facts:
            return None
        shape = (len(self.obs), self.facts["n_umap"])
        return np.memmap(self.table.folder / UMAP, dtype="<f4", mode="r", shape=shape)

    def _stored(self) -> StoredLatents:
        n_latent = self.model.architecture.n_latent
        with_variance = self.facts.get("n_variance") == n_latent
        return StoredLatents.open(
            self.table.folder, len(self.obs), n_latent, variance=with_variance
        )

    def _encoded(self, columns: CellColumns) -> EncodedCells:
        match = self.draft.match_genes(self.table.genes())
        lacking = next((each for each in match.by_kind if each.n_matched < each.n_panel), None)
        if lacking is not None:
            raise UnfitCells(
                f"The cells have {lacking.n_matched:,} of the model's {lacking.n_panel:,} "
                f"{lacking.kind}s, under "
                f"names as {listed(self.table.gene_columns()['index'], most=3)}; the model knows "
                f"names as {listed(self.draft.genes.ids, most=3)}.",
                fix="Give the file that the model was trained on, or one with all of its genes.",
            )
        self._refuse_empty()
        # No latent depends on the size factor, so the file need not have it.
        plain = self.draft.model_copy(update={"size_factor_key": None, "depth_key": None})
        key = self.batch_key
        design = design_query(
            self.obs, plain, batch_key=None if key is None else [key], reuse_batches=True
        )
        for covariate, new in zip(plain.extra_covariates, design.new_categories[1:], strict=True):
            self._refuse_strangers(
                pd.Series(new, dtype=object), covariate.categories, f"values of {covariate.key!r}"
            )
        batch = np.asarray(columns.batch.codes, dtype=np.int64)
        return EncodedCells(
            self.model.network,
            AlignedCounts(self.table, match),
            (batch, *design.codes[1:]),
            design.continuous,
        )

    def _refuse_empty(self) -> None:
        if self.table.nnz == 0:
            raise UnfitCells(
                f"`{self.table.counts_from}` holds no value above zero.",
                fix="Name the counts with --layer, or the latents with --latent-key.",
            )

    def _genes(self) -> Genes:
        """The panel with further names of its genes, where the cells' file has them."""
        ids, rows = self.draft.genes.ids, dict[int, int]()
        for row, position in enumerate(self.draft.match_genes(self.table.genes()).positions):
            if position >= 0:
                rows.setdefault(position, row)
        if len(rows) < MOSTLY * len(ids):
            return self.draft.genes
        columns = [
            [names[rows[at]] if at in rows else NO_NAME for at in range(len(ids))]
            for names in self.table.gene_columns().values()
        ]
        return named_genes(ids, [ids, *columns], self.draft.genes.modalities)
