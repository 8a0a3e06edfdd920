"""The cells that a fit learns from, or is watched by."""

from dataclasses import dataclass

from models_store.cells import Cells, Projection, Rows, select_cells


@dataclass(frozen=True)
class TrainingCells:
    """Cells of one group, in an order that their content decides.

    Codes of new categories follow those of the reference, as surgery numbers them.
    """

    cells: Cells
    projection: Projection

    def rows(self, rows: Rows) -> "TrainingCells":
        return TrainingCells(select_cells(self.cells, rows), self.projection.rows(rows))

    def __len__(self) -> int:
        return len(self.cells.x)
