"""An h5ad of any layout since anndata 0.6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.problems import Problem
from models_store.feature_kinds import FeatureKind, kinds_of
from worker.intake.attached import Attached
from worker.intake.choice import Choice
from worker.intake.counts import raw_blocks
from worker.intake.dense import first_band
from worker.intake.feature_types import feature_types
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

    def __init__(self, source: Source, root: str = "", choice: Choice | None = None) -> None:
        self.source, self.root, self.choice = source, root, choice or Choice()
        chosen = self.choice
        names_key, known = chosen.protein_names, chosen.known_proteins
        self._tables = ProteinTables(source, root, chosen.proteins, names_key, known)
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
        return any(kind == "protein" for kind, _ in self._own_features())

    def _own_features(self) -> set[tuple[FeatureKind | None, str]]:
        """Kind and name of what var has, and the table of the matrix that is looked at first."""
        found: set[tuple[FeatureKind | None, str]] = set()
        for matrix in (None, self._first_elsewhere()):
            try:
                var = self.genes(matrix, Findings())
            except Problem:
                continue  # told where the genes are read
            kinds = kinds_of(feature_types(var) or [""] * len(var))
            found.update(zip(kinds, var.index.to_pylist(), strict=True))
        return found

    def _first_elsewhere(self) -> Matrix | None:
        """The matrix that was asked for, or is looked at first, where its genes are not in var."""
        name = self.choice.layer or next(iter(self.candidates()), None)
        try:
            matrix = locate(self.source, name, self.root)
        except Problem:
            return None
        return None if matrix.var_path == f"{self.root}/var" else matrix

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
