"""One modality of a MuData file, with the columns of cells that the file keeps for all of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.problems import Problem
from worker.intake.columns import Column
from worker.intake.findings import Findings, located
from worker.intake.h5ad import H5ad
from worker.intake.matrices import Matrix
from worker.intake.source import Source
from worker.intake.tables import Table, read_table

MODALITIES = "/mod"
USUAL = ("rna", "gex")
"""What the modality of gene counts is called, in any case of letters."""


def open_modality(source: Source, modality: str | None) -> H5mu:
    """The modality that was asked for, or the one of gene counts, or the only one.

    Raises:
        Problem: there is no such modality, or several and none is the usual one.
    """
    found = source.keys(MODALITIES)
    if not found:
        raise located(
            "missing-array",
            MODALITIES,
            "The file has no modality.",
            'Upload the modality of gene counts: mdata["rna"].write_h5ad("query.h5ad").',
        )
    listed = ", ".join(f"`{name}`" for name in found[:20])
    if modality is None:
        usual = [name for wanted in USUAL for name in found if name.casefold() == wanted]
        modality = usual[0] if usual else found[0] if len(found) == 1 else None
    if modality is None:
        raise located(
            "several-modalities",
            MODALITIES,
            f"The file holds {len(found)} modalities: {listed}. None is called rna or gex.",
            f"Send it again with modality={found[0]}, or another of them.",
        )
    if modality not in found:
        raise located(
            "unknown-modality",
            MODALITIES,
            f"The file has no modality {modality!r}; it has {listed}.",
            "Send it again with one of these as modality=...",
        )
    return H5mu(source, modality)


class H5mu(H5ad):
    """See `QueryFile`."""

    format = "h5mu"

    def __init__(self, source: Source, modality: str) -> None:
        super().__init__(source, f"{MODALITIES}/{modality}")
        self.modality = modality

    def facts(self) -> dict[str, Any]:
        return {"modality": self.modality}

    def cells(self, findings: Findings) -> Table:
        own = super().cells(findings)
        if self.source.has("/obs"):
            try:
                self._join(own, read_table(self.source, "/obs", findings))
            except Problem as problem:
                findings.tell(
                    "column-left-out",
                    "/obs",
                    f"The table of all modalities' cells is left out: {problem.detail}",
                    "Nothing needs doing unless you need its columns.",
                )
        return own

    def _join(self, own: Table, whole: Table) -> None:
        """Add columns that the modality lacks, where each of its cells is in the table of all."""
        rows = pc.index_in(own.index, whole.index)
        distinct = pc.count_distinct(whole.index).as_py() == len(whole)
        if rows.null_count or not distinct:
            return
        known = {column.name for column in own.columns} | set(own.unread)
        for column in whole.columns:
            # mudata copies a modality's columns up, with its name before theirs.
            name = column.name.removeprefix(f"{self.modality}:")
            if name not in known:
                known.add(name)
                own.columns.append(Column(name, _taken(column.values, rows), column.nullable))

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        others = [name for name in self.source.keys(MODALITIES) if name != self.modality]
        return {**super().dropped(matrix), **({"modalities": others} if others else {})}


def _taken(values: pa.Array, rows: pa.Array) -> pa.Array:
    return pc.take(values, rows)
