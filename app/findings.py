"""What a check says of a file: findings, each with a stable code that docs/problems.md explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from app.problems import (
    AmbiguousFile,
    EmptyFile,
    FileTooLarge,
    JobTimeout,
    MalformedRequest,
    NoCells,
    NotCounts,
    Problem,
    UnfitCells,
    UnknownLayer,
    UnreadableFile,
    UnsupportedFile,
)

Severity = Literal["error", "warning", "note"]
"""An error refuses the file; a warning should be looked at; a note only tells."""


@dataclass(frozen=True)
class Finding:
    """One thing found in a file: where, what, and what to do about it."""

    code: str
    severity: Severity
    pointer: str
    detail: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def _of(problem: type[Problem], *codes: str) -> dict[str, type[Problem]]:
    return dict.fromkeys(codes, problem)


ERRORS: Mapping[str, type[Problem]] = {
    **_of(EmptyFile, "empty-file"),
    **_of(
        UnsupportedFile,
        "user-block",
        "external-link",
        "unknown-link",
        "dangling-link",
        "virtual-dataset",
        "external-storage",
        "object-repeated",
        "trailing-bytes",
        "too-deep",
        "unknown-filter",
        "other-format",
        "transposed-matrix",
        "unfiltered-barcodes",
        "archive-path",
        "archive-link",
        "archive-device",
        "archive-encrypted",
        "archive-nested",
        "archive-repeats",
        "market-kind",
    ),
    **_of(
        FileTooLarge,
        "too-many-objects",
        "too-many-cells",
        "too-many-columns",
        "declares-too-much",
        "expands-too-much",
        "chunk-too-large",
        "attribute-too-large",
        "out-of-memory",
    ),
    **_of(
        UnreadableFile,
        "not-hdf5",
        "damaged-file",
        "crashes-reader",
        "missing-array",
        "placeholder",
        "wrong-dimensions",
        "wrong-length",
        "attribute-not-scalar",
        "matrix-encoding",
        "matrix-shape",
        "shape-mismatch",
        "not-numbers",
        "entries-differ",
        "pointers-not-integers",
        "pointers-begin-late",
        "pointers-fall",
        "pointers-end",
        "indices-not-integers",
        "index-out-of-range",
        "table-missing",
        "table-index-missing",
        "names-not-text",
        "names-missing",
        "text-with-nul",
        "column-encoding",
        "column-values",
        "codes-not-integers",
        "code-out-of-range",
        "categories-repeat",
        "features-repeat",
        "archive-damaged",
        "market-header",
        "market-line",
        "market-entries",
        "table-lines",
    ),
    **_of(UnknownLayer, "unknown-layer", "unknown-genome", "unknown-modality", "unknown-proteins"),
    **_of(AmbiguousFile, "several-genomes", "several-matrices", "several-modalities"),
    **_of(MalformedRequest, "samples-differ", "triple-incomplete"),
    **_of(NoCells, "no-cells"),
    **_of(
        NotCounts,
        "not-a-number",
        "infinite-values",
        "negative-values",
        "fractional-values",
        "log-normalised",
        "normalised-values",
        "rounded-cpm",
        "truncated-values",
        "values-too-large",
        "no-counts",
    ),
    **_of(UnfitCells, "unfit-cells"),
    **_of(JobTimeout, "check-too-slow"),
}
"""Each code that refuses a file, and the type of the problem that then answers."""

WARNINGS = frozenset(
    {
        "batch-confounded",
        "column-left-out",
        "column-renamed",
        "count-like",
        "empty-cells",
        "features-left-out",
        "genes-differ",
        "missing-batch",
        "missing-condition",
        "missing-sample",
        "nearly-empty-cells",
        "private-column",
        "proteins-ambiguous",
        "repeated-cells",
        "repeated-genes",
        "small-batches",
        "too-many-batches",
        "undetermined-cells",
        "unfiltered-kept",
        "unknown-column",
        "unknown-control-value",
        "unknown-identifiers",
    }
)
NOTES = frozenset(
    {
        "columns-not-kept",
        "counts-recovered",
        "features-joined",
        "features-twice",
        "gene-identifiers",
        "matrix-turned",
        "other-features",
    }
)


def severity_of(code: str) -> Severity:
    """Raises KeyError for a code that is not in the tables above."""
    if code in ERRORS:
        return "error"
    if code in WARNINGS:
        return "warning"
    if code in NOTES:
        return "note"
    raise KeyError(code)


def every_code() -> list[str]:
    return sorted({*ERRORS, *WARNINGS, *NOTES})


def empty_file(detail: str, fix: str) -> EmptyFile:
    """Nothing arrived: told at the door, with the code that a check would give it."""
    finding = Finding("empty-file", severity_of("empty-file"), "/", detail, fix)
    return EmptyFile(detail, fix=fix, errors=[finding.as_dict()])
