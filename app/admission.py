"""Whether a checked query can be mapped as asked, told before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.coverage import Coverage
from app.design_columns import check_design
from app.gene_admission import check_genes
from app.problems import (
    InputKindMismatch,
    Problem,
    UnknownBatchColumn,
    UnknownCovariate,
    UnknownLabelsColumn,
)
from app.wanted_outputs import wanted_outputs
from models_store.manifest import Manifest


def check_admission(
    *,
    inspection: Mapping[str, Any],
    coverage: Coverage,
    manifest: Manifest,
    options: Mapping[str, Any],
) -> None:
    """Raise the first reason why this mapping cannot be done.

    Args:
        inspection: what intake reported of the query.
        coverage: of the reference's panel by the query's genes.
        manifest: of the reference version.
        options: the keys, the cell filter, the outputs and `force`, as the caller has them.
    """
    columns = [str(column["name"]) for column in inspection.get("columns", ())]
    _check_columns(columns, manifest, options)
    _check_covariates(columns, manifest, options)
    check_design(inspection.get("columns", ()), options)
    _check_input(inspection, manifest)
    check_genes(coverage, manifest, force=bool(options.get("force")))
    wanted_outputs(options, manifest)


def needed_columns(manifest: Manifest) -> list[str]:
    """The obs columns that a mapping onto this version reads, whatever keys it names."""
    keys = [covariate.key for covariate in manifest.extra_covariates if covariate.key]
    keys += manifest.continuous_covariates
    return keys + [key for key in (manifest.size_factor_key, manifest.depth_key) if key]


def _check_columns(columns: Sequence[str], manifest: Manifest, options: Mapping[str, Any]) -> None:
    missing = [key for key in options.get("batch_key") or () if key not in columns]
    if missing:
        raise _unknown_column(UnknownBatchColumn, "batch_key", missing[0], columns)
    labels_key = options.get("labels_key")
    # Cells of a SCANVI query need no label: the mapping warns of the absent column.
    if labels_key and labels_key not in columns and manifest.kind != "scanvi":
        raise _unknown_column(UnknownLabelsColumn, "labels_key", labels_key, columns)


def _unknown_column(kind: type[Problem], option: str, name: str, columns: Sequence[str]) -> Problem:
    listed = ", ".join(columns) if columns else "none"
    return kind(
        f"The query's obs has no column {name!r}. Its columns: {listed}.",
        fix=f"Set {option} to one of these columns, or leave it out.",
        errors=[{"pointer": f"/obs/{name}", "detail": "no such column"}],
        available=list(columns),
    )


def _check_covariates(
    columns: Sequence[str], manifest: Manifest, options: Mapping[str, Any]
) -> None:
    for covariate in manifest.extra_covariates:
        if covariate.key is not None and covariate.key not in columns:
            raise _missing_covariate(covariate.key, manifest, covariate.categories)
    for key in manifest.continuous_covariates:
        if key not in columns:
            raise _missing_covariate(key, manifest, ())
    asked = options.get("size_factor_key")
    if asked and manifest.size_factor_key is None:
        raise UnknownCovariate(
            f"Reference {manifest.name} was trained without size factors, so it has no use for "
            f"{asked!r}.",
            fix="Leave size_factor_key out.",
            errors=[{"pointer": "/size_factor_key", "detail": "not taken by this reference"}],
        )
    for factor_key in (asked or manifest.size_factor_key, manifest.depth_key):
        if factor_key and factor_key not in columns:
            raise _missing_covariate(factor_key, manifest, ())


def _missing_covariate(key: str, manifest: Manifest, known: Sequence[str]) -> Problem:
    values = f"Values that the reference knows: {', '.join(known)}." if known else "It is a number."
    return UnknownCovariate(
        f"Reference {manifest.name} needs the obs column {key!r}, which the query lacks. {values}",
        fix=f"Add {key!r} to obs, with a value for every cell, and upload the file again.",
        errors=[{"pointer": f"/obs/{key}", "detail": "missing"}],
        known=list(known),
    )


def _check_input(inspection: Mapping[str, Any], manifest: Manifest) -> None:
    found = inspection.get("input", "counts")
    if found != manifest.input:
        raise InputKindMismatch(
            f"The query holds {found} values; reference {manifest.name} takes {manifest.input}.",
            fix=f"Upload it with ?input={manifest.input} and the matrix that holds such values.",
            errors=[{"pointer": str(inspection.get("counts_from", "/X")), "detail": found}],
        )
