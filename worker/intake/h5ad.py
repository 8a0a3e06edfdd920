"""An h5ad of any layout since anndata 0.6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.problems import Problem
from models_store.feature_kinds import kinds_of
from worker.intake.attached import Attached
from worker.intake.counts import raw_blocks
from worker.intake.dense import first_band
from worker.intake.feature_types import TYPE_COLUMNS, feature_types
from worker.intake.findings import Findings
from worker.intake.matrices import Matrix, available, locate, usual_places
from worker.intake.protein_tables import ProteinTables, find_proteins
from worker.intake.rows import RowBlock
from worker.intake.source import Source
from worker.intake.sparse import examine_compressed, first_values
from worker.intake.tables import Table, read_table
from worker.intake.values import Array, Survey

LISTED_DROPS = 100
NOT_KEPT = ("layers", "uns", "obsm", "varm", "obsp", "varp")


class H5ad:
    """See `QueryFile`."""

    format = "h5ad"

    def __init__(
        self,
        source: Source,
        root: str = "",
        proteins: str | None = None,
        named_by: str | None = None,
    ) -> None:
        """`proteins`: the table of obsm that holds them; `named_by`: their names in uns."""
        self.source, self.root = source, root
        self._tables = ProteinTables(source, root, proteins, named_by)
        self._proteins: Attached | None = None

    def facts(self) -> dict[str, Any]:
        return {}

    def matrices(self) -> list[str]:
        return available(self.source, self.root)

    def candidates(self) -> list[str]:
        return usual_places(self.source, self.root)

    def locate(self, layer: str | None) -> Matrix:
        return locate(self.source, layer, self.root)

    def cells(self, findings: Findings) -> Table:
        return read_table(self.source, f"{self.root}/obs", findings)

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        return read_table(self.source, matrix.var_path if matrix else f"{self.root}/var", findings)

    def peek(self, matrix: Matrix, number: int) -> Array:
        if matrix.layout == "dense":
            return first_band(self.source, matrix, number)
        return first_values(self.source, matrix, number)

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        return raw_blocks(self.source, matrix, survey)

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        if matrix.layout != "dense":
            examine_compressed(self.source, matrix, survey, findings)

    def attached(self, cells: Table, findings: Findings) -> list[Attached]:
        if self._tables.key is not None:
            self._proteins = self._tables.named(cells.index)
        elif self._tables.likely() and not self._has_proteins():
            self._proteins = find_proteins(self._tables, cells.index, findings)
        return [] if self._proteins is None else [self._proteins]

    def _has_proteins(self) -> bool:
        """Whether the matrix itself has some: then a table is another form of them."""
        path = f"{self.root}/var"
        try:
            var = read_table(self.source, path, Findings(), only=TYPE_COLUMNS)
        except Problem:
            return False
        return "protein" in kinds_of(feature_types(var) or ())

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        found = {
            group: self.source.keys(f"{self.root}/{group}")[:LISTED_DROPS]
            for group in NOT_KEPT
            if self.source.has(f"{self.root}/{group}")
        }
        found["layers"] = [
            name for name in found.get("layers", []) if f"layers/{name}" != matrix.name
        ]
        if self._proteins is not None:
            taken = self._proteins.name.removeprefix("obsm/")
            found["obsm"] = [name for name in found["obsm"] if name != taken]
        found["matrices"] = [name for name in self.matrices() if name != matrix.name]
        return found
