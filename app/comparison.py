"""What differs between two reference versions, by their manifests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models_store.manifest import Covariate, Manifest

PLAIN = (
    *("kind", "input", "species", "licence", "citation"),
    *("size_factor_key", "unlabeled_category"),
)
FEWEST_GENES = 3
SCALE = 1e4
"""Shares of the counts are compared as log(1 + share x 10,000), as single cells are plotted."""


@dataclass(frozen=True)
class Difference:
    """Of an ordered set: what the second has and the first has not, and the other way round."""

    n_before: int
    n_after: int
    gained: list[str]
    lost: list[str]

    @property
    def is_none(self) -> bool:
        return not self.gained and not self.lost


@dataclass(frozen=True)
class Comparison:
    """From the first version, `before`, to the second, `after`."""

    before: str
    after: str
    genes: Difference
    labels: dict[str, Difference]
    """By label level; a level that only one of them has is compared with nothing."""
    batches: Difference
    extra_covariates: dict[str, Difference]
    changed: dict[str, tuple[Any, Any]]
    """Fields whose values differ, under their paths in the manifest."""
    expected_expression_correlation: float | None
    """Pearson's, of log(1 + 10,000 x share), over the genes that both have; None below 3 genes."""


def compare_manifests(before: Manifest, after: Manifest) -> Comparison:
    return Comparison(
        before=f"{before.name}@{before.version}",
        after=f"{after.name}@{after.version}",
        genes=_difference(before.genes.ids, after.genes.ids),
        labels=_by_key(
            {level.key: level.categories for level in before.labels},
            {level.key: level.categories for level in after.labels},
        ),
        batches=_difference(before.batch.categories, after.batch.categories),
        extra_covariates=_by_key(
            _by_name(before.extra_covariates),
            _by_name(after.extra_covariates),
        ),
        changed=_changed(_fields(before), _fields(after)),
        expected_expression_correlation=_correlation(before, after),
    )


def _difference(before: Sequence[str], after: Sequence[str]) -> Difference:
    had, has = set(before), set(after)
    return Difference(
        n_before=len(before),
        n_after=len(after),
        gained=[each for each in after if each not in had],
        lost=[each for each in before if each not in has],
    )


def _by_key(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> dict[str, Difference]:
    keys = [*before, *(key for key in after if key not in before)]
    return {key: _difference(before.get(key, ()), after.get(key, ())) for key in keys}


def _by_name(covariates: Sequence[Covariate]) -> dict[str, Sequence[str]]:
    return {
        each.key or f"covariate {number}": each.categories
        for number, each in enumerate(covariates, start=1)
    }


def _fields(manifest: Manifest) -> dict[str, Any]:
    told = manifest.model_dump(mode="json")
    fields = {name: told[name] for name in PLAIN}
    fields |= {"batch.key": manifest.batch.key, "n_cells": manifest.provenance.n_cells}
    fields["continuous_covariates"] = told["continuous_covariates"]
    for part in ("architecture", "default_recipe", "thresholds"):
        fields |= {f"{part}.{name}": value for name, value in told[part].items()}
    return fields


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before[name], after[name]) for name in before if before[name] != after.get(name)}


def _correlation(before: Manifest, after: Manifest) -> float | None:
    theirs = dict(zip(after.genes.ids, after.expected_expression, strict=True))
    shared = [
        (share, theirs[gene])
        for gene, share in zip(before.genes.ids, before.expected_expression, strict=True)
        if gene in theirs
    ]
    if len(shared) < FEWEST_GENES:
        return None
    logs = [
        [math.log1p(SCALE * max(share, 0.0)) for share in side]
        for side in zip(*shared, strict=True)
    ]
    try:
        return statistics.correlation(*logs)
    except statistics.StatisticsError:  # one of them is the same for every gene
        return None
