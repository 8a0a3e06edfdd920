"""An h5ad of any layout since anndata 0.6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker.intake.counts import raw_blocks
from worker.intake.dense import first_band
from worker.intake.findings import Findings
from worker.intake.matrices import Matrix, available, locate, usual_places
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

    def __init__(self, source: Source, root: str = "") -> None:
        self.source, self.root = source, root

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

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        found = {
            group: self.source.keys(f"{self.root}/{group}")[:LISTED_DROPS]
            for group in NOT_KEPT
            if self.source.has(f"{self.root}/{group}")
        }
        found["layers"] = [
            name for name in found.get("layers", []) if f"layers/{name}" != matrix.name
        ]
        found["matrices"] = [name for name in self.matrices() if name != matrix.name]
        return found
