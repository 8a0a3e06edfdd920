"""What every format of upload offers a check: tables of cells and genes, and matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from worker.intake.attached import Attached
from worker.intake.findings import Findings
from worker.intake.matrices import Matrix
from worker.intake.rows import RowBlock
from worker.intake.tables import Table
from worker.intake.values import Array, Survey


class QueryFile(Protocol):
    """One uploaded file whose links have been walked; nothing else of it is proved yet."""

    @property
    def format(self) -> str:
        """As the report calls it, such as `h5ad`."""

    def facts(self) -> dict[str, Any]:
        """What else the report says of the file, such as its genome."""

    def matrices(self) -> list[str]:
        """The names by which a caller may ask for a matrix."""

    def candidates(self) -> list[str]:
        """Where counts are looked for when the caller named no matrix, the likeliest first."""

    def peek(self, matrix: Matrix, number: int) -> Array:
        """About so many of a matrix's first stored values, cheaply; asked of one among several.

        Raises:
            Problem: they cannot be read.
        """

    def locate(self, layer: str | None) -> Matrix:
        """The matrix that the caller named; the format's usual one when none was.

        Raises:
            Problem: the file has no such matrix, or what stands there is none.
        """

    def cells(self, findings: Findings) -> Table:
        """The table of cells. A column that cannot be read is left out, with a warning.

        Raises:
            Problem: there is no table, or the names of its rows are damaged.
        """

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        """The table of a matrix's genes, likewise; of the usual matrix where none was located."""

    def attached(self, cells: Table, findings: Findings) -> list[Attached]:
        """Features beside the matrices, proved, for each of the cells; asked of counts alone.

        Raises:
            Problem: those that the caller named are not there, or are no counts.
        """

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        """The rows of a matrix, in order, in blocks of bounded memory.

        Raises:
            Problem: the structure of the matrix is damaged.
        """

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        """Of a matrix that `blocks` could not read: all that is wrong, each array on its own."""

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        """What the canonical query leaves out of the file, by group."""
