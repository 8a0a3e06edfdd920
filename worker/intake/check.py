"""One upload, from its first byte to the canonical query and the inspection report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from app.problems import Problem
from worker.intake import cells, genes
from worker.intake.attached import Attached, tell_joined
from worker.intake.choice import Choice
from worker.intake.counts import warn_about_counts
from worker.intake.counts_search import CountsSearch, Found, Fractions, Wanted
from worker.intake.design_keys import DesignRequest, choose_columns, look_at_design
from worker.intake.droplets import tell_unfiltered
from worker.intake.features import FeatureTable
from worker.intake.findings import COPY_AGAIN, Findings, located, within_memory
from worker.intake.frames import NoSink, Sink
from worker.intake.joined_samples import JoinedSamples
from worker.intake.limits import Limits
from worker.intake.matrices import Matrix
from worker.intake.opening import Opener
from worker.intake.orientation import transposition
from worker.intake.private_columns import warn_of_private_columns
from worker.intake.query_file import QueryFile
from worker.intake.samples import UploadedFile, sort_into_samples
from worker.intake.tables import Table
from worker.intake.uncounted import refuse_zeros, tell_found

KEPT = (
    *("n_cells", "n_genes", "nnz", "input", "dropped"),
    *("counts_from", "counts_class", "rounded", "recovered"),
)
"""What of a report the canonical query keeps."""
AS_COUNTED = "Upload the file as Cell Ranger wrote it."
TABLES_FIT = {
    "10x-mtx": "Upload the tables that were written with this matrix; if one of them begins with a "
    "line of headings, remove that line.",
    "10x-h5-v2": AS_COUNTED,
    "10x-h5-v3": AS_COUNTED,
}
"""By format: what to do about tables that do not fit the matrix, where it is no anndata file."""


@dataclass(frozen=True)
class Request:
    """What the caller said about the file."""

    layer: str | None = None
    input: str = "counts"
    genome: str | None = None
    modality: str | None = None
    proteins_key: str | None = None
    """The table of obsm that holds proteins; None: found where it is unmistakable."""
    protein_names_key: str | None = None
    unfiltered: str | None = None
    samples: tuple[str, ...] = ()
    """Names of the samples in the order of their files; none: from the names of the files."""
    counts: Fractions | None = None
    design: DesignRequest = field(default_factory=lambda: DesignRequest.from_options({}))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        return cls(
            layer=options.get("layer"),
            input=options.get("input") or "counts",
            counts=options.get("counts"),
            design=DesignRequest.from_options(options),
            genome=options.get("genome"),
            modality=options.get("modality"),
            proteins_key=options.get("proteins_key"),
            protein_names_key=options.get("protein_names_key"),
            unfiltered=options.get("unfiltered"),
            samples=tuple(options.get("sample") or ()),
        )

    @property
    def choice(self) -> Choice:
        return Choice(
            genome=self.genome,
            modality=self.modality,
            proteins=self.proteins_key,
            protein_names=self.protein_names_key,
            layer=self.layer,
        )

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.layer, whole=self.input == "counts", fractions=self.counts)


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
    attached: list[Attached] = field(default_factory=list)

    @contextmanager
    def opened(self, files: Sequence[UploadedFile]) -> Iterator[QueryFile]:
        """One file as it is, or all samples as one."""
        opener = Opener(self.request.choice, self.limits)
        samples = sort_into_samples(files, self.request.samples, self.findings)
        if len(samples) > 1 or self.request.samples:
            yield JoinedSamples(samples, opener, self.request.layer, self.findings)
            return
        with opener.open(samples[0].files, self.findings) as query:
            yield query

    def look_through(self, query: QueryFile) -> None:
        self.facts |= {"format": query.format, "input": self.request.input, **query.facts()}
        found, obs, var = self._anatomy(query)
        if found is not None:
            self._matrix(query, found, obs, var)
        if obs is not None:
            self._cells(obs)
        if var is not None:
            self._features(var)

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
        if obs is not None and self.request.input == "counts":
            with self.findings.collecting(), within_memory("/obsm"):
                self.attached = query.attached(obs, self.findings)
        with self.findings.collecting(), within_memory("/X"):
            sink = self.sink if not self.findings.errors else NoSink()
            wanted, beside = self.request.wanted, self.attached
            found = CountsSearch(query, wanted, self.limits, obs, sink, beside).find()
            self.attached = found.beside.named
            found.beside.tell(self.findings)
        tell_joined(self.attached, self.findings)
        with self.findings.collecting():
            var = query.genes(found.matrix if found else None, self.findings)
        return found, obs, var

    def _matrix(self, query: QueryFile, found: Found, obs: Table | None, var: Table | None) -> None:
        matrix = found.matrix
        n_features = found.beside.width
        self.facts |= {"n_cells": matrix.shape[0], "n_genes": n_features, **found.facts()}
        with self.findings.collecting(), within_memory(matrix.path):
            self.facts["dropped"] = query.dropped(matrix)
            if left := found.beside.dropped():
                self.facts["dropped"].setdefault("obsm", []).extend(left)
            if obs is not None:
                self.facts["dropped"]["obs"] = obs.unread
            self._counts(query, found, *self._fitting(matrix, obs, var))

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
        self.findings.take(_shape_mismatch(matrix, obs, var, TABLES_FIT.get(self.facts["format"])))
        return None, None

    def _counts(self, query: QueryFile, found: Found, obs: Table | None, var: Table | None) -> None:
        if found.problem is not None:
            self.findings.take(found.problem)
            query.examine(found.matrix, found.survey, self.findings)
        tell_found(query, found, (obs, var), self.findings)
        if found.totals is not None and found.survey.is_clean:
            self.facts |= {"nnz": found.totals.nnz, "counts": found.totals.as_dict()}
            warn_about_counts(found.totals, self.findings)
            if found.survey.whole and obs is not None:  # transposed, genes would look like droplets
                asked = self.request.unfiltered
                tell_unfiltered(found.matrix, found.totals, asked, self.findings)
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

    def _features(self, var: Table) -> None:
        genes.warn_about_genes(var, self.findings)
        features = FeatureTable.of(var, self.attached, self.findings)
        self.facts["genes"] = features.described(var.path, self.findings)
        self.facts["features"] = features.genes.count_kinds()
        self.sink.write("genes.json", features.as_json())


def _shape_mismatch(
    matrix: Matrix, obs: Table | None, var: Table | None, fix: str | None
) -> Problem:
    named = [
        f"{table.path} names {len(table):,} {what}"
        for table, what in ((obs, "cells"), (var, "genes"))
        if table is not None
    ]
    return located(
        "shape-mismatch",
        matrix.path,
        f"`{matrix.name}` is {matrix.shape[0]:,} x {matrix.shape[1]:,}, but {' and '.join(named)}.",
        fix or COPY_AGAIN,
    )
