"""One upload, from its first byte to the canonical query and the inspection report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from app.problems import Problem
from worker.intake import cells, genes
from worker.intake.counts import warn_about_counts, write_counts
from worker.intake.droplets import tell_unfiltered
from worker.intake.findings import Findings, located
from worker.intake.frames import NoSink, Sink
from worker.intake.joined_samples import JoinedSamples
from worker.intake.limits import Limits
from worker.intake.matrices import Matrix
from worker.intake.opening import Choice, Opener
from worker.intake.orientation import transposition
from worker.intake.query_file import QueryFile
from worker.intake.samples import UploadedFile, sort_into_samples
from worker.intake.tables import Table
from worker.intake.uncounted import refuse_zeros, tell_faults
from worker.intake.values import Survey


@dataclass(frozen=True)
class Request:
    """What the caller said about the file."""

    layer: str | None = None
    input: str = "counts"
    genome: str | None = None
    modality: str | None = None
    unfiltered: str | None = None
    samples: tuple[str, ...] = ()
    """Names of the samples in the order of their files; none: from the names of the files."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        return cls(
            layer=options.get("layer"),
            input=options.get("input") or "counts",
            genome=options.get("genome"),
            modality=options.get("modality"),
            unfiltered=options.get("unfiltered"),
            samples=tuple(options.get("sample") or ()),
        )

    @property
    def choice(self) -> Choice:
        return Choice(genome=self.genome, modality=self.modality)

    @property
    def whole(self) -> bool:
        return self.input == "counts"


def check_file(path: Path, request: Request, limits: Limits, sink: Sink) -> dict[str, Any]:
    """`check_upload` of a single file."""
    return check_upload([UploadedFile(path)], request, limits, sink)


def check_upload(
    files: Sequence[UploadedFile], request: Request, limits: Limits, sink: Sink
) -> dict[str, Any]:
    """Prove the files, write the canonical query to the sink and return the inspection.

    Raises:
        Problem: the upload is refused. `errors` lists everything that was found, and `inspection`
            what could be told of it all the same.
    """
    check = _Check(request, limits, sink)
    with check.findings.collecting(), check.opened(files) as query:
        check.look_through(query)
    return check.outcome()


@dataclass
class _Check:
    """Each part is read as far as it can be, whatever is wrong with the others."""

    request: Request
    limits: Limits
    sink: Sink
    findings: Findings = field(default_factory=Findings)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def opened(self, files: Sequence[UploadedFile]) -> Iterator[QueryFile]:
        """One file as it is, or all samples as one."""
        opener = Opener(self.request.choice, self.limits)
        samples = sort_into_samples(files, self.request.samples, self.findings)
        if len(samples) > 1 or self.request.samples:
            yield JoinedSamples(samples, opener, self.findings)
            return
        with opener.open(samples[0].files, self.findings) as query:
            yield query

    def look_through(self, query: QueryFile) -> None:
        self.facts |= {"format": query.format, "input": self.request.input, **query.facts()}
        matrix, obs, var = self._anatomy(query)
        if matrix is not None:
            self._matrix(query, matrix, obs, var)
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
        kept = ("n_cells", "n_genes", "nnz", "input", "counts_from", "dropped")
        facts = {name: self.facts[name] for name in kept}
        self.sink.write("canonical.json", json.dumps({"format": 1, **facts}).encode())
        return self.facts

    def _anatomy(self, query: QueryFile) -> tuple[Matrix | None, Table | None, Table | None]:
        matrix, obs, var = None, None, None
        with self.findings.collecting():
            matrix = query.locate(self.request.layer)
        with self.findings.collecting():
            obs = query.cells(self.findings)
        with self.findings.collecting():
            var = query.genes(matrix, self.findings)
        return matrix, obs, var

    def _matrix(
        self, query: QueryFile, matrix: Matrix, obs: Table | None, var: Table | None
    ) -> None:
        n_cells, n_genes = matrix.shape
        self.facts |= {"n_cells": n_cells, "n_genes": n_genes, "counts_from": matrix.name}
        with self.findings.collecting():
            self.facts["dropped"] = query.dropped(matrix)
            if obs is not None:
                self.facts["dropped"]["obs"] = obs.unread
            _check_size(matrix, self.limits)
            self._counts(query, matrix, *self._fitting(matrix, obs, var))

    def _fitting(
        self, matrix: Matrix, obs: Table | None, var: Table | None
    ) -> tuple[Table | None, Table | None]:
        """The tables whose names belong to the rows and columns of the matrix."""
        n_cells, n_genes = matrix.shape
        if obs is not None and var is not None:
            turned = transposition(matrix, obs, var)
            if turned is not None:
                self.findings.take(turned)
                return None, None
        if (obs is None or len(obs) == n_cells) and (var is None or len(var) == n_genes):
            return obs, var
        self.findings.take(_shape_mismatch(matrix, obs, var))
        return None, None

    def _counts(
        self, query: QueryFile, matrix: Matrix, obs: Table | None, var: Table | None
    ) -> None:
        survey = Survey(whole=self.request.whole)
        sink = self.sink if not self.findings.errors else NoSink()
        try:
            totals = write_counts(query.blocks(matrix, survey), matrix.shape, sink, survey)
        except Problem as problem:
            self.findings.take(problem)
            query.examine(matrix, survey, self.findings)
            totals = None
        tell_faults(query, matrix, survey, (obs, var), self.findings)
        if totals is not None and survey.is_clean:
            self.facts |= {"nnz": totals.nnz, "counts": totals.as_dict()}
            warn_about_counts(totals, self.findings)
            if self.request.whole:
                tell_unfiltered(matrix, totals, self.request.unfiltered, self.findings)
            with self.findings.collecting():
                refuse_zeros(query, matrix, totals)

    def _cells(self, obs: Table) -> None:
        cells.warn_about_cells(obs, self.findings)
        self.facts["columns"] = cells.describe_columns(obs)
        self.sink.write("obs.arrow", cells.as_arrow(obs))

    def _genes(self, var: Table) -> None:
        genes.warn_about_genes(var, self.findings)
        columns = genes.gene_columns(var, self.findings)
        example = var.index.slice(0, 5).to_pylist()
        self.facts["genes"] = {"example": example, "columns": [genes.INDEX, *columns]}
        self.sink.write("genes.json", genes.as_json(var, columns))


def _check_size(matrix: Matrix, limits: Limits) -> None:
    n_cells, n_genes = matrix.shape
    if n_cells > limits.cells or n_genes > limits.genes:
        raise located(
            "too-many-cells",
            matrix.path,
            f"`{matrix.name}` has {n_cells:,} cells and {n_genes:,} genes; the limits are "
            f"{limits.cells:,} and {limits.genes:,}.",
            "Upload the cells in several files.",
        )
    if not n_cells or not n_genes:
        raise located(
            "no-cells",
            matrix.path,
            f"`{matrix.name}` has {n_cells:,} cells and {n_genes:,} genes: nothing to map.",
            "Check the filter that was applied before the file was written.",
        )


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
