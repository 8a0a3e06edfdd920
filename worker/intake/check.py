"""One upload, from its first byte to the canonical query and the inspection report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h5py

from app.problems import Problem
from worker.intake import cells, genes
from worker.intake.counts import warn_about_counts
from worker.intake.counts_search import CountsSearch, Found, Fractions, Wanted
from worker.intake.design_keys import DesignRequest, choose_columns, look_at_design
from worker.intake.findings import Findings, located, reading, within_memory
from worker.intake.frames import NoSink, Sink
from worker.intake.kinds import recognise
from worker.intake.limits import Limits
from worker.intake.look import look
from worker.intake.matrices import Matrix
from worker.intake.private_columns import warn_of_private_columns
from worker.intake.query_file import QueryFile
from worker.intake.signature import check_signature
from worker.intake.source import Source
from worker.intake.tables import Table
from worker.intake.uncounted import refuse_zeros, tell_found

KEPT = (
    *("n_cells", "n_genes", "nnz", "input", "dropped"),
    *("counts_from", "counts_class", "rounded", "recovered"),
)
"""What of a report the canonical query keeps."""


@dataclass(frozen=True)
class Request:
    """What the caller said about the file."""

    layer: str | None = None
    input: str = "counts"
    counts: Fractions | None = None
    design: DesignRequest = field(default_factory=lambda: DesignRequest.from_options({}))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        return cls(
            layer=options.get("layer"),
            input=options.get("input") or "counts",
            counts=options.get("counts"),
            design=DesignRequest.from_options(options),
        )

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.layer, whole=self.input == "counts", fractions=self.counts)


def check_file(path: Path, request: Request, limits: Limits, sink: Sink) -> dict[str, Any]:
    """Prove the file, write the canonical query to the sink and return the inspection.

    Raises:
        Problem: the file is refused. `errors` lists everything that was found, and `inspection`
            what could be told of the file all the same.
    """
    check = _Check(request, limits, sink)
    with check.findings.collecting():
        check_signature(path)
        with _opened(path) as file:
            check.look_through(file)
    return check.outcome()


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with reading("/"):
        file = h5py.File(path, "r", locking=False)
    with file:
        yield file


@dataclass
class _Check:
    """Each part is read as far as it can be, whatever is wrong with the others."""

    request: Request
    limits: Limits
    sink: Sink
    findings: Findings = field(default_factory=Findings)
    facts: dict[str, Any] = field(default_factory=dict)

    def look_through(self, file: h5py.File) -> None:
        look(file, self.limits, self.findings)
        query = recognise(Source(file, self.limits))
        self.facts |= {"format": query.format, "input": self.request.input}
        found, obs, var = self._anatomy(query)
        if found is not None:
            self._matrix(query, found, obs, var)
        if obs is not None:
            self._cells(obs)
        if var is not None:
            self._genes(var)

    def outcome(self) -> dict[str, Any]:
        problem = self.findings.problem()
        self.facts["problems"] = self.findings.as_dicts()
        if problem is not None:
            problem.inspection = self.facts
            raise problem
        facts = {name: self.facts[name] for name in KEPT if name in self.facts}
        self.sink.write("canonical.json", json.dumps({"format": 1, **facts}).encode())
        return self.facts

    def _anatomy(self, query: QueryFile) -> tuple[Found | None, Table | None, Table | None]:
        found, obs, var = None, None, None
        with self.findings.collecting():
            obs = query.cells(self.findings)
        with self.findings.collecting(), within_memory("/X"):
            sink = self.sink if not self.findings.errors else NoSink()
            found = CountsSearch(query, self.request.wanted, self.limits, obs, sink).find()
        with self.findings.collecting():
            var = query.genes(found.matrix if found else None, self.findings)
        return found, obs, var

    def _matrix(self, query: QueryFile, found: Found, obs: Table | None, var: Table | None) -> None:
        matrix = found.matrix
        n_cells, n_genes = matrix.shape
        self.facts |= {"n_cells": n_cells, "n_genes": n_genes, **found.facts()}
        with self.findings.collecting(), within_memory(matrix.path):
            self.facts["dropped"] = query.dropped(matrix)
            if obs is not None:
                self.facts["dropped"]["obs"] = obs.unread
            self._counts(query, found, *self._fitting(matrix, obs, var))

    def _fitting(
        self, matrix: Matrix, obs: Table | None, var: Table | None
    ) -> tuple[Table | None, Table | None]:
        """The tables whose names belong to the rows and columns of the matrix."""
        n_cells, n_genes = matrix.shape
        if (obs is None or len(obs) == n_cells) and (var is None or len(var) == n_genes):
            return obs, var
        self.findings.take(_shape_mismatch(matrix, obs, var))
        return None, None

    def _counts(self, query: QueryFile, found: Found, obs: Table | None, var: Table | None) -> None:
        if found.problem is not None:
            self.findings.take(found.problem)
            query.examine(found.matrix, found.survey, self.findings)
        tell_found(query, found, (obs, var), self.findings)
        if found.totals is not None and found.survey.is_clean:
            self.facts |= {"nnz": found.totals.nnz, "counts": found.totals.as_dict()}
            warn_about_counts(found.totals, self.findings)
            with self.findings.collecting():
                refuse_zeros(query, found.matrix, found.totals)

    def _cells(self, obs: Table) -> None:
        cells.warn_about_cells(obs, self.findings)
        self._columns(obs)
        self.sink.write("obs.arrow", cells.as_arrow(obs))

    def _columns(self, obs: Table) -> None:
        private = warn_of_private_columns(obs, self.findings)
        left_out = choose_columns(obs, self.request.design, self.findings)
        self.facts.setdefault("dropped", {})["obs_policy"] = left_out
        self.facts["columns"] = cells.describe_columns(obs, private)
        look_at_design(obs, self.request.design, private, self.findings)

    def _genes(self, var: Table) -> None:
        genes.warn_about_genes(var, self.findings)
        columns = genes.gene_columns(var, self.findings)
        self.facts["genes"] = genes.describe(var, columns, self.findings)
        self.sink.write("genes.json", genes.as_json(var, columns))


def _shape_mismatch(matrix: Matrix, obs: Table | None, var: Table | None) -> Problem:
    named = [
        f"{table.path} names {len(table):,} {what}"
        for table, what in ((obs, "cells"), (var, "genes"))
        if table is not None
    ]
    return located(
        "shape-mismatch",
        matrix.path,
        f"`{matrix.name}` is {matrix.shape[0]:,} x {matrix.shape[1]:,}, but {' and '.join(named)}.",
    )
