"""Every kind keeps its promises at once: a sample's latents are the same bytes alone, in a plate
and with its rows in another order, and the reference's own cells do not move.

What `test_independence` and `test_invariance` try out in depth for kinds of one sort of features
is asked here of all six, with features of the sort that each kind takes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from models_store.bundle import load_bundle
from models_store.manifest import Kind
from models_store.recipe import RecipeName
from tests.worker.engine.simulated import (
    N_GENES,
    Reference,
    Simulated,
    nothing,
    simulate,
    write_canonical,
)
from tests.worker.engine.test_independence import joined
from tests.worker.engine.test_invariance import stored
from tests.worker.engine.test_mapping import order
from tests.worker.engine.test_regions import say_types
from worker.alignment import AlignedCounts
from worker.building import run_build
from worker.canonical import CanonicalQuery
from worker.covariates import design_query
from worker.grafting import QuerySurgery
from worker.mapping import run_mapping
from worker.orders import BuildOrder
from worker.reference_cache import ReferenceCache

GENES, PEAKS, PROTEINS = "Gene Expression", "Peaks", "Antibody Capture"
FEATURES: dict[Kind, list[str]] = {
    "scvi": [GENES] * N_GENES,
    "scanvi": [GENES] * N_GENES,
    "peakvi": [PEAKS] * N_GENES,
    "poissonvi": [PEAKS] * N_GENES,
    "totalvi": [GENES] * (N_GENES - 12) + [PROTEINS] * 12,
    "multivi": [GENES] * 25 + [PEAKS] * 25 + [PROTEINS] * (N_GENES - 50),
}
SMALL = {"n_hidden": 16, "n_latent": 4}


def ways(cells: Simulated, types: list[str]) -> Simulated:
    """Of cells with several modalities, every third lacks genes or regions, in turn."""
    lacking = [kind for kind in (GENES, PEAKS) if kind in types] if PEAKS in types else []
    counts = cells.counts.toarray()
    if len(lacking) > 1:
        for first, kind in enumerate(lacking):
            counts[first::3, [at for at, each in enumerate(types) if each == kind]] = 0
    return dataclasses.replace(cells, counts=sp.csr_matrix(counts))


@pytest.fixture(scope="module", params=list(FEATURES))
def reference(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Reference:
    kind: Kind = request.param
    folder, types = tmp_path_factory.mktemp(kind), FEATURES[kind]
    write_canonical(folder / "q", ways(simulate({"ref-a": 90, "ref-b": 70}), types))
    say_types(folder / "q", types)
    (folder / "bundle").mkdir()
    options = {"kind": kind, "batch_key": "batch", "max_epochs": 2, "recipe_search": "off"}
    options |= {"labels_keys": ["cell_type"], "architecture": SMALL, "n_top_genes": None}
    ordered = BuildOrder("tiny", 1, folder / "q", folder / "bundle", options, {}, 1, "cpu")
    run_build(ordered, nothing)
    return Reference(folder / "bundle", *load_bundle(folder / "bundle"))


def latent(
    reference: Reference, folder: Path, cells: Simulated, recipe: RecipeName = "converged"
) -> pd.DataFrame:
    """As the service writes it; `converged` has fitted rows that no restraint holds back."""
    made = order(reference, folder, cells, recipe=recipe, force=True)
    say_types(made.canonical, FEATURES[reference.manifest.kind])
    run_mapping(made, ReferenceCache(), nothing)
    return pd.read_parquet(made.out / "latent.parquet")


@pytest.mark.parametrize("recipe", ["converged", "default"])
def test_alone_in_a_plate_and_permuted(
    reference: Reference, tmp_path: Path, recipe: RecipeName
) -> None:
    types = FEATURES[reference.manifest.kind]
    mine = ways(simulate({"mine": 40}, seed=1), types)
    plate = joined(ways(simulate({"other-1": 20, "other-2": 25}, seed=2), types), mine)
    shuffled = plate.take(np.random.default_rng(3).permutation(plate.counts.shape[0]))
    alone = latent(reference, tmp_path / "alone", mine, recipe)
    permuted = latent(reference, tmp_path / "plate", shuffled, recipe)
    assert np.isfinite(alone.to_numpy()).all()
    assert permuted.loc[alone.index].equals(alone)
    if recipe == "default":  # may be back at its start, where a batch's cells decide nothing
        return
    fewer = latent(reference, tmp_path / "fewer", mine.take(np.arange(39)))
    assert not fewer.equals(alone.iloc[:39]), "the fit looks at every cell"


def test_reference_cells_keep_their_stored_latents(reference: Reference, tmp_path: Path) -> None:
    """Beside cells of new batches, whose rows were fitted."""
    types, manifest = FEATURES[reference.manifest.kind], reference.manifest
    own = ways(simulate({"ref-a": 90, "ref-b": 70}), types)
    both = joined(own, ways(simulate({"new": 40}, seed=5), types))
    write_canonical(tmp_path / "q", both)
    say_types(tmp_path / "q", types)
    query = CanonicalQuery.open(tmp_path / "q")
    counts = AlignedCounts(query, manifest.match_genes(query.genes()))
    design = design_query(query.obs(), manifest, batch_key=["batch"], reuse_batches=True)
    surgery = QuerySurgery(manifest, reference.cvae, counts, design)
    projected = surgery.project(nothing)
    recipe = manifest.recipe("converged").model_copy(update={"max_epochs": 3})
    weights = surgery.weights(surgery.fit(projected, recipe, nothing))
    found, (mean, variance) = surgery.encode(projected, weights), stored(reference)
    assert np.array_equal(found.mean[:160].numpy(), mean)
    assert np.array_equal(found.variance[:160].numpy(), variance)
    start = surgery.encode(projected, None)
    assert not np.array_equal(found.mean[160:].numpy(), start.mean[160:].numpy())
