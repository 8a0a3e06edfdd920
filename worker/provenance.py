"""What a mapping says of itself: enough to trust it, to question it, and to make it again."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.coverage import Coverage
from app.gene_admission import forced_verdict
from models_store.blocks import BLOCK
from models_store.gene_matching import GeneMatch
from models_store.recipe import Recipe
from models_store.scanvi import CLASSIFICATION_RATIO
from worker.chosen_cells import Choice
from worker.explained import Explained
from worker.grafting import GroupFit, PlacedCells, QuerySurgery
from worker.mapping_warnings import mapping_warnings
from worker.orders import MapOrder
from worker.restraint import Restrained
from worker.results import EMPTY


@dataclass(frozen=True)
class MappedQuery:
    """A mapped query in memory: coordinates, weights, and how they came about."""

    surgery: QuerySurgery
    recipe: Recipe
    match: GeneMatch
    coverage: Coverage
    fits: list[GroupFit]
    weights: dict[str, Tensor]
    placed: PlacedCells
    explained: Explained
    """Of the reference's forward pass, whatever the recipe."""
    empty: npt.NDArray[np.bool_]
    """Cells without a count in the reference's genes: their coordinates mean nothing."""
    n_shards: int
    """By how many shards the cells were read; 0: by this worker itself."""
    origin: dict[str, Any]
    """Where the query's counts came from; see `CanonicalQuery.origin`."""
    choice: Choice | None
    """Which of the query's cells these are; None: all."""
    columns: dict[str, str]
    """What the columns added to obs are called in query.h5ad, by their usual names."""

    def batch_names(self) -> list[str]:
        """The batch category of every cell, under the name it has in this mapping."""
        design = self.surgery.design
        names = (*self.surgery.manifest.batch.categories, *design.new_categories[0])
        return [names[code] for code in design.codes[0]]

    def warnings(self) -> list[dict[str, str]]:
        """What whoever reads the coordinates ought to know."""
        return mapping_warnings(
            self.surgery.manifest,
            self.coverage,
            self.explained,
            of_design=self.surgery.design.warnings,
            n_empty=int(self.empty.sum()),
            empty_column=self.columns[EMPTY],
        )

    def weights_metadata(self) -> dict[str, str]:
        """Which reference the query weights extend, and which category each row is."""
        manifest, design = self.surgery.manifest, self.surgery.design
        covariates = (manifest.batch, *manifest.extra_covariates)
        rows = {
            f"categories:{covariate.key}": "\n".join(new)
            for covariate, new in zip(covariates, design.new_categories, strict=True)
        }
        return {"reference": f"{manifest.name}@{manifest.version}", **rows}


def provenance(
    order: MapOrder, manifest_sha256: str, mapped: MappedQuery, seconds: dict[str, float]
) -> dict[str, Any]:
    """The content of provenance.json."""
    manifest = mapped.surgery.manifest
    return {
        "mapping": order.mapping_id,
        "query": {**order.query_facts, **mapped.origin},
        "reference": {
            "name": manifest.name,
            "version": manifest.version,
            "manifest_sha256": manifest_sha256,
            "files": dict(manifest.files),
            "licence": manifest.licence,
            "citation": manifest.citation,
            **order.reference_facts,
        },
        "options": order.options,
        "recipe": mapped.recipe.model_dump(),
        "genes": {
            "query_column": mapped.match.query_column,
            "reference_column": mapped.match.reference_column,
            "n_matched": mapped.match.n_matched,
            "n_panel": mapped.match.n_panel,
            "expected_expression_covered": round(mapped.match.expected_expression_covered, 6),
            "kinds": _kinds(mapped),
            "matched_as": dict(mapped.match.matched_as),
            "query_species": list(mapped.match.query_species),
            "reference_species": list(mapped.match.reference_species),
        },
        "verdict": forced_verdict(mapped.coverage),
        "explained": mapped.explained.facts(),
        "surgery": _surgery(mapped),
        **_design(mapped),
        "labels": _labels(mapped),
        "obs_columns": mapped.columns,
        "warnings": mapped.warnings(),
        "seconds": seconds,
        "software": {
            "cellgraft": version("cellgraft"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": order.device,
        "threads": order.threads,
        "shards": mapped.n_shards,
        "block": BLOCK,
    }


def summary(mapped: MappedQuery, n_cells: int, seconds: dict[str, float]) -> dict[str, Any]:
    """The figures that the mapping's resource shows."""
    return {
        "n_cells": n_cells,
        "n_empty_cells": int(mapped.empty.sum()),
        "n_genes_matched": mapped.match.n_matched,
        "n_genes_reference": mapped.match.n_panel,
        "expected_expression_covered": round(mapped.match.expected_expression_covered, 4),
        "features": _kinds(mapped),
        "verdict": forced_verdict(mapped.coverage),
        "explained": mapped.explained.facts(),
        **_surgery(mapped),
        **_design(mapped),
        "labels": _labels(mapped),
        "warnings": mapped.warnings(),
        "seconds": seconds,
    }


def _kinds(mapped: MappedQuery) -> list[dict[str, Any]]:
    """Coverage of each kind of features that the reference has."""
    return [each.model_dump() for each in mapped.match.by_kind]


def _surgery(mapped: MappedQuery) -> dict[str, Any]:
    surgery = mapped.surgery
    return {
        "has_effect": surgery.manifest.surgery_has_effect,
        "n_trainable_weights": sum(rows.numel() for rows in mapped.weights.values()),
        "coupled_batches": surgery.design.is_coupled,
        "renamed_batches": dict(surgery.design.renamed),
        "movement": _movement(mapped, slice(None)),
        "batches": [_group(mapped, each) for each in mapped.fits],
    }


def _design(mapped: MappedQuery) -> dict[str, Any]:
    """Which cells were mapped, and how the experiment divides them."""
    return {
        "cell_filter": None if mapped.choice is None else mapped.choice.facts(),
        "design": mapped.surgery.design.experiment.facts,
    }


def _labels(mapped: MappedQuery) -> dict[str, Any] | None:
    """What the query's own labels were, for a reference that looks at them."""
    given = mapped.surgery.design.given_labels
    if given is None:
        return None
    if mapped.surgery.manifest.kind != "scanvi":
        return given.facts()
    return {
        **given.facts(),
        "predicted": mapped.surgery.manifest.labels[0].key,
        "classification_ratio": CLASSIFICATION_RATIO,
    }


def _group(mapped: MappedQuery, each: GroupFit) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": each.group.name,
        "batches": list(each.group.batches),
        "n_cells": len(each.group.cells),
        "seed": each.seed,
        "movement": _movement(mapped, each.group.cells),
    }
    if each.fit is None:
        return {**facts, "stop_reason": "no cell of this batch has counts in the reference's genes"}
    found = each.fit
    return {
        **facts,
        "n_training_cells": found.n_cells - found.n_held_out,
        "n_held_out_cells": found.n_held_out,
        "n_trainable_weights": found.n_trainable,
        "epochs": found.epochs,
        "elbo_before": _round(found.elbo_before),
        "elbo_after": _round(found.elbo_after),
        "stop_reason": found.stop_reason,
        "penalty": mapped.recipe.penalty,
        "trusted": _round(found.trusted),
        "shrinkage": _round(found.shrinkage),
        "restraint": _restraint(found.restrained),
    }


def _restraint(found: Restrained | None) -> dict[str, float] | None:
    """How far the batch went along with its fit, and its mixing there; None: nobody looked."""
    if found is None:
        return None
    return {
        "share": _round(found.share),
        "nearest": _round(found.nearest),
        "mixing_forward": _round(found.mixing_start),
        "mixing_fitted": _round(found.mixing_fitted),
        "mixing": _round(found.mixing),
    }


def _movement(mapped: MappedQuery, cells: slice | npt.NDArray[np.int64]) -> dict[str, float]:
    """How far surgery moved the cells from where recipe `forward` puts them (Euclidean, latent)."""
    distance = np.sort(mapped.placed.moved[cells])  # sorted: sums do not depend on row order
    if not len(distance):
        return {"mean": 0.0, "median": 0.0, "max": 0.0}
    return {
        "mean": _round(float(distance.mean())),
        "median": _round(float(np.median(distance))),
        "max": _round(float(distance[-1])),
    }


def _round(value: float) -> float:
    return round(value, 5)
