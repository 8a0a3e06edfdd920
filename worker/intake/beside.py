"""What is joined to one matrix, where its own proteins may stand in a table beside it too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_matrix

from app.problems import Problem
from models_store.feature_kinds import kinds_of
from worker.intake.attached import Attached, widened
from worker.intake.feature_types import feature_types
from worker.intake.findings import Findings, located
from worker.intake.limits import Limits
from worker.intake.matrices import Matrix
from worker.intake.query_file import QueryFile
from worker.intake.rows import RowBlock, merged, select


@dataclass
class Beside:
    """Features beside the matrix, joined to it; of those that it has too, one of the two."""

    matrix: Matrix
    joined: list[Attached] = field(default_factory=list)
    left: list[Attached] = field(default_factory=list)
    """Tables that nobody asked for, of a matrix that has proteins itself."""
    twice: dict[int, int] = field(default_factory=dict)
    """Columns behind those of the matrix, and the columns of the matrix that are the same."""
    difference: Problem | None = None
    """Found by `blocks`: the two do not hold the same counts."""

    @classmethod
    def of(cls, query: QueryFile, matrix: Matrix, attached: Sequence[Attached]) -> Beside:
        """What of the attached features is joined to this matrix; some may be of other cells."""
        found = cls(matrix, [each for each in attached if each.n_cells == matrix.shape[0]])
        proteins = _proteins(query, matrix) if found.joined else {}
        if proteins:
            found.left = [each for each in found.joined if each.asked is False]
            found.joined = [each for each in found.joined if each.asked is not False]
        at = matrix.shape[1]
        for each in found.joined:
            if each.asked:
                columns = enumerate(each.names, at)
                found.twice |= {own: proteins[name] for own, name in columns if name in proteins}
            at += each.width
        return found

    @property
    def width(self) -> int:
        """Of the matrix and all that is joined to it."""
        return self.matrix.shape[1] + sum(each.width for each in self.named)

    @property
    def named(self) -> list[Attached]:
        """What is joined, without the names that the matrix has."""
        found, at = [], self.matrix.shape[1]
        for each in self.joined:
            new = [own for own in range(each.width) if at + own not in self.twice]
            names, types = [each.names[own] for own in new], [each.types[own] for own in new]
            found.append(replace(each, names=names, types=types))
            at += each.width
        return [each for each in found if each.width]

    def blocks(self, rows: Iterable[RowBlock], limits: Limits) -> Iterator[RowBlock]:
        """The rows of the matrix with what is joined behind them, in blocks of bounded memory.

        Raises:
            Problem: cells stand in another order, and are too many to be held at once.
        """
        wide = widened(rows, self.matrix.shape[1], self.joined, limits)
        if not self.twice:
            yield from wide
            return
        width = self.matrix.shape[1] + sum(each.width for each in self.joined)
        places = np.full(width, -1, dtype=np.int32)
        kept = [column for column in range(width) if column not in self.twice]
        places[kept] = np.arange(len(kept))
        for block in wide:
            if self.difference is None:
                self.difference = self._difference(merged(block, width), width)
            yield select(block, places)

    def _difference(self, block: RowBlock, width: int) -> Problem | None:
        rows = csr_matrix((block.values, block.indices, block.indptr), shape=(len(block), width))
        ours, theirs = rows[:, list(self.twice.values())], rows[:, list(self.twice)]
        row, column = (ours != theirs).nonzero()
        if not len(row):
            return None
        at, table = self._named_at(list(self.twice)[column[0]])
        return located(
            "features-repeat",
            table.path,
            f"`{self.matrix.name}` and `{table.name}` count {table.names[at]!r} differently: "
            f"{ours[row[0], column[0]]:.6g} and {theirs[row[0], column[0]]:.6g} in row "
            f"{block.first + row[0]}.",
            "Leave proteins_key out for the counts of the matrix, or name a matrix that has no "
            "proteins with layer=...",
        )

    def _named_at(self, column: int) -> tuple[int, Attached]:
        at = column - self.matrix.shape[1]
        for each in self.joined:
            if at < each.width:
                return at, each
            at -= each.width
        raise IndexError(column)

    def tell(self, findings: Findings) -> None:
        """What became of the proteins that the matrix has too."""
        if self.difference is not None:
            findings.take(self.difference)
        elif self.twice:
            at, table = self._named_at(next(iter(self.twice)))
            findings.tell(
                "features-twice",
                table.path,
                f"`{self.matrix.name}` and `{table.name}` hold the same counts of "
                f"{len(self.twice):,} proteins, such as {table.names[at]!r}; they are taken once.",
                "Nothing needs doing.",
            )
        for each in self.left:
            findings.tell(
                "features-left-out",
                each.path,
                f"The proteins of `{each.name}` are left out: `{self.matrix.name}`, where the "
                "counts are, has proteins of its own.",
                "Nothing needs doing if those are the ones that you want; otherwise name a matrix "
                "that has no proteins with layer=...",
            )

    def dropped(self) -> list[str]:
        """The tables of obsm that are left."""
        return [each.name.removeprefix("obsm/") for each in self.left]


def _proteins(query: QueryFile, matrix: Matrix) -> dict[str, int]:
    """The proteins that a matrix has itself, and their columns."""
    try:
        var = query.genes(matrix, Findings())
    except Problem:
        return {}  # told where the genes are read
    if len(var) != matrix.shape[1]:
        return {}
    kinds = zip(kinds_of(feature_types(var) or ()), var.index.to_pylist(), strict=False)
    return {name: column for column, (kind, name) in enumerate(kinds) if kind == "protein"}
