"""Several files read as one: cells below each other, genes by name, a column that says whence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.problems import Problem
from worker.intake.attached import Attached
from worker.intake.columns import Column
from worker.intake.findings import Findings, PartFindings, located, placed
from worker.intake.joined_features import join_attached
from worker.intake.joined_tables import GenePanel, join_tables
from worker.intake.matrices import Matrix
from worker.intake.opening import Opener
from worker.intake.part_anatomy import anatomy, shared, together
from worker.intake.query_file import QueryFile
from worker.intake.rows import RowBlock, select
from worker.intake.samples import Sample
from worker.intake.tables import Table
from worker.intake.values import Array, Survey
from worker.names import free_name

SAMPLE = "sample"
LISTED = 8
MIXED = "mixed"
"""The format of an upload whose files are of several."""


@dataclass(frozen=True)
class _Part:
    """A file (or triple) that could be opened, and whose cells have names."""

    number: int
    sample: Sample
    format: str
    facts: dict[str, Any]
    obs: Table
    first: int
    """The row of its first cell."""


@dataclass(frozen=True)
class _Joined:
    """The matrices of one name in all parts."""

    matrix: Matrix
    genes: Table
    places: list[Array]
    """For each part, where its genes are in the panel of all."""


class JoinedSamples:
    """See `QueryFile`. Files are opened one at a time, however many there are.

    What is wrong with one is told with its number, and the others are looked at all the same.
    """

    def __init__(
        self, samples: Sequence[Sample], opener: Opener, layer: str | None, findings: Findings
    ) -> None:
        self.opener, self.layer, self.findings = opener, layer, findings
        self.parts: list[_Part] = []
        self._joined: dict[str, _Joined] = {}
        self._fault: Problem | None = None
        for number, sample in enumerate(samples, 1):
            self._meet(number, sample)

    def _meet(self, number: int, sample: Sample) -> None:
        """A part that has no sound matrix is told of and left out; the others are looked at."""
        told = PartFindings(self.findings, number)
        try:
            with self.opener.open(sample.files, told) as query:
                obs = query.cells(told)
                self._require_matrix(query, obs, told)
                part = _Part(number, sample, query.format, query.facts(), obs, self.n_cells)
            self.parts.append(part)
        except Problem as problem:
            self._fault = placed(problem, number)
            self.findings.take(self._fault)

    def _require_matrix(self, query: QueryFile, obs: Table, told: Findings) -> None:
        usual: list[str | None] = [*query.candidates()]
        names = [self.layer] if self.layer else usual or [None]
        faults = []
        for name in names:
            try:
                anatomy(query, name, obs, told)
            except Problem as problem:
                faults.append(problem)
        if len(faults) == len(names):
            raise faults[0]

    @property
    def n_cells(self) -> int:
        return sum(len(part.obs) for part in self.parts)

    @property
    def format(self) -> str:
        formats = {part.format for part in self.parts}
        return formats.pop() if len(formats) == 1 else MIXED

    def facts(self) -> dict[str, Any]:
        parts = [
            {
                "sample": part.sample.name,
                "format": part.format,
                "n_cells": len(part.obs),
                **part.facts,
            }
            for part in self.parts
        ]
        return {"parts": parts}

    def matrices(self) -> list[str]:
        """Those that all parts have."""
        return shared([query.matrices() for query in self._each()])

    def candidates(self) -> list[str]:
        """Those of the first part that all have.

        Raises:
            Problem: each part has some, and there is none of one name.
        """
        found = [query.candidates() for query in self._each()]
        usual = shared(found)
        if found and all(found) and not usual:
            raise self._elsewhere(found)
        return usual

    def _each(self) -> Iterator[QueryFile]:
        for part in self.parts:
            with self.opener.open(part.sample.files, None) as query:
                yield query

    def _elsewhere(self, found: list[list[str]]) -> Problem:
        said = [
            f"part {part.number} has {', '.join(f'`{name}`' for name in names)}"
            for part, names in zip(self.parts, found, strict=True)
        ]
        more = f"; and {len(said) - LISTED} more" if len(said) > LISTED else ""
        return located(
            "unknown-layer",
            "/parts",
            f"The files keep their counts in different places: {'; '.join(said[:LISTED])}{more}.",
            "Write all of them with the counts in one place, such as layers['counts'].",
        )

    def peek(self, matrix: Matrix, number: int) -> Array:
        part = self.parts[0]
        try:
            with self.opener.open(part.sample.files, None) as query:
                return query.peek(query.locate(matrix.name), number)
        except Problem as problem:
            raise placed(problem, part.number) from problem

    def locate(self, layer: str | None) -> Matrix:
        matrices, tables, faults = [], [], []
        for part in self.parts:
            told = PartFindings(self.findings, part.number)
            try:
                with self.opener.open(part.sample.files, None) as query:
                    matrix, genes = anatomy(query, layer, part.obs, told)
                matrices.append(matrix)
                tables.append(genes)
            except Problem as problem:
                faults.append(placed(problem, part.number))
        if faults or not matrices:
            raise together(faults or [self._nothing()])
        return self._join(matrices, tables)

    def _join(self, matrices: list[Matrix], tables: list[Table]) -> Matrix:
        name = matrices[0].name
        panel = GenePanel()
        places = [panel.add(table) for table in tables]
        genes = panel.table(self.findings)
        if panel.differ:
            self.findings.tell(
                "genes-differ",
                "/parts",
                f"The files do not have the same genes: {len(genes):,} in all, of which "
                f"{panel.everywhere:,} are in every file. A gene that a file lacks is 0 there.",
                "Process all samples with the same reference genome if they are to be compared.",
            )
        # No array of it is ever read by this path; each part's are, by its own.
        matrix = Matrix(name, "/parts", "/parts", "dense", (self.n_cells, len(genes)))
        self._joined[name] = _Joined(matrix, genes, places)
        return matrix

    def cells(self, findings: Findings) -> Table:
        if not self.parts:
            raise self._nothing()
        names = [part.sample.name for part in self.parts]
        codes = np.repeat(np.arange(len(names)), [len(part.obs) for part in self.parts])
        samples = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names))
        joined = join_tables([part.obs for part in self.parts], "/obs", findings)
        index = pc.binary_join_element_wise(joined.index, samples.dictionary_decode(), "_")
        columns = [self._renamed(column, joined, findings) for column in joined.columns]
        return Table("/obs", index, None, [Column(SAMPLE, samples), *columns], joined.unread)

    def _renamed(self, column: Column, table: Table, findings: Findings) -> Column:
        if column.name != SAMPLE:
            return column
        name = free_name(SAMPLE, [SAMPLE, *(each.name for each in table.columns)])
        findings.tell(
            "column-renamed",
            f"/obs/{SAMPLE}",
            f"The column {SAMPLE!r} of the files is called {name!r} here, because {SAMPLE!r} says "
            "from which file a cell comes.",
            f"Use batch_key={name} if you mean the column of the files.",
        )
        return Column(name, column.values, column.nullable)

    def genes(self, matrix: Matrix | None, findings: Findings) -> Table:
        if matrix is None:
            raise self._nothing()
        return self._joined[matrix.name].genes

    def _nothing(self) -> Problem:
        """Why there is nothing to read; all that is in the way has been told by now."""
        fault = self._fault or self.findings.problem()
        assert fault is not None
        return fault

    def blocks(self, matrix: Matrix, survey: Survey) -> Iterator[RowBlock]:
        joined = self._joined[matrix.name]
        for part, places in zip(self.parts, joined.places, strict=True):
            own = survey.afresh()
            try:
                with self.opener.open(part.sample.files, None) as query:
                    for block in query.blocks(query.locate(matrix.name), own):
                        self._pass_on(own, survey, part, places)
                        moved = select(block, places)
                        first = part.first + block.first
                        yield RowBlock(first, moved.indptr, moved.indices, moved.values)
                        own.fractions = survey.fractions  # may be allowed after the first blocks
            except Problem as problem:
                raise placed(problem, part.number) from problem

    def _pass_on(self, own: Survey, whole: Survey, part: _Part, places: Array) -> None:
        """What was found in a part, at the rows and columns of all."""
        for code, fault in own.faults.items():
            place = fault.place and (part.first + fault.place[0], int(places[fault.place[1]]))
            whole.pass_on(code, fault, place, f"/parts/{part.number}")
        own.faults.clear()

    def attached(self, cells: Table, findings: Findings) -> list[Attached]:
        """Of all parts as one; a part that lacks some has zeros there."""
        parts = []
        for part in self.parts:
            told = PartFindings(findings, part.number)
            try:
                with self.opener.open(part.sample.files, None) as query:
                    parts.append(query.attached(part.obs, told))
            except Problem as problem:
                raise placed(problem, part.number) from problem
        joined = join_attached(
            parts, [len(part.obs) for part in self.parts], self._attached_of, self.opener.limits
        )
        return [] if joined is None else [joined]

    @contextmanager
    def _attached_of(self, number: int) -> Iterator[list[Attached]]:
        """What is attached to a part, opened again to be read."""
        part = self.parts[number]
        with self.opener.open(part.sample.files, None) as query:
            yield query.attached(part.obs, Findings())

    def examine(self, matrix: Matrix, survey: Survey, findings: Findings) -> None:
        survey.faults.clear()
        for part, places in zip(self.parts, self._joined[matrix.name].places, strict=True):
            own = survey.afresh()
            told = PartFindings(findings, part.number)
            with self.opener.open(part.sample.files, None) as query:
                found = query.locate(matrix.name)
                try:
                    for _ in query.blocks(found, own):
                        continue
                except Problem as problem:
                    told.take(problem)
                    query.examine(found, own, told)
            self._pass_on(own, survey, part, places)

    def dropped(self, matrix: Matrix) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for part in self.parts:
            with self.opener.open(part.sample.files, None) as query:
                for group, names in query.dropped(query.locate(matrix.name)).items():
                    known = found.setdefault(group, [])
                    known += [name for name in names if name not in known]
        return found
