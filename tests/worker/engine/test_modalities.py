"""References of several modalities: what is built of a file, and queries that lack some of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from app.problems import UntrainableReference
from app.references import manifest_digest
from models_store.bundle import load_bundle
from models_store.gene_columns import QueryGenes
from models_store.multivi import MULTIVI
from tests.worker.engine.simulated import (
    N_GENES,
    Simulated,
    nothing,
    simulate,
    write_canonical,
)
from tests.worker.engine.test_regions import built, say_types
from worker.explained import explain
from worker.mapping import run_mapping
from worker.networks import draft_architecture
from worker.orders import MapOrder
from worker.reference_cache import LoadedReference, ReferenceCache

N_OF_GENES, N_OF_REGIONS = 25, 25
TYPES = [
    *["Gene Expression"] * N_OF_GENES,
    *["Peaks"] * N_OF_REGIONS,
    *["Antibody Capture"] * (N_GENES - N_OF_GENES - N_OF_REGIONS),
]


def test_all_three_kinds_of_features_are_taken(tmp_path: Path) -> None:
    made: dict[str, Any] = built(tmp_path, TYPES, kind="multivi")
    kinds = {run["kind"]: run["count"] for run in made["genes"]["modalities"]}
    assert kinds == {"gene": 25, "region": 25, "protein": 10}
    a = made["architecture"]
    assert (a["n_hidden"], a["n_latent"], a["log_variational"]) == (5, 2, False)
    assert made["self_test"]["reference_reproduced"]
    assert made["self_test"]["padded_cells_map"]
    assert sum(made["expected_expression"]) == pytest.approx(1)
    _, network = load_bundle(tmp_path / "bundle")
    assert isinstance(network, MULTIVI)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dispersion": "gene-label"}, "no labels"),
        ({"model_depth": False}, "no option of kind MULTIVI"),
        ({"library": "latent"}, "no option of kind MULTIVI"),
        ({"modality_weights": "cell"}, "modality_weights is 'cell'"),
        ({"depth_factor": True, "library": "size_factor"}, "belong together"),
    ],
)
def test_options_that_it_has_not(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UntrainableReference, match=says):
        draft_architecture({"kind": "MULTIVI", "architecture": options}, "counts")


@pytest.mark.parametrize("kind", ["SCVI", "SCANVI", "TOTALVI", "PEAKVI", "POISSONVI"])
def test_depths_are_given_to_no_other_kind(kind: str) -> None:
    options = {"kind": kind, "labels_keys": ["t"], "depth_key": "depth"}
    with pytest.raises(UntrainableReference, match="depth_factor is no option"):
        draft_architecture(options, "counts")


def test_depths_without_size_factors_are_refused() -> None:
    with pytest.raises(UntrainableReference, match="size factor"):
        draft_architecture({"kind": "MULTIVI", "depth_key": "depth"}, "counts")


def test_values_that_are_no_counts_are_refused() -> None:
    normal = {"kind": "MULTIVI", "architecture": {"likelihood": "normal"}}
    with pytest.raises(UntrainableReference, match="MULTIVI models counts"):
        draft_architecture(normal, "continuous")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multivi")
    made = built(folder, TYPES, kind="multivi", max_epochs=4)
    (folder / "digest").write_text(manifest_digest(made))
    return folder


def _mapped(reference: Path, folder: Path, lacks: str) -> np.ndarray:
    """Latents of 40 cells that were measured for all but some kinds of features."""
    cells = simulate({"c": 40}, seed=3)
    kept = [at for at, kind in enumerate(TYPES) if kind not in lacks]
    counts = sp.lil_matrix(cells.counts.shape, dtype=np.float32)
    counts[:, kept] = cells.counts[:, kept]
    ordered = _ordered(reference, folder, dataclasses.replace(cells, counts=counts.tocsr()))
    run_mapping(ordered, ReferenceCache(), nothing)
    return pd.read_parquet(ordered.out / "latent.parquet").to_numpy()


def _ordered(
    reference: Path, folder: Path, cells: Simulated, *, recipe: str = "default"
) -> MapOrder:
    write_canonical(folder / "q", cells)
    say_types(folder / "q", TYPES)
    (folder / "out").mkdir()
    return MapOrder(
        mapping_id="m",
        canonical=folder / "q",
        bundle=reference / "bundle",
        manifest_sha256=(reference / "digest").read_text(),
        out=folder / "out",
        options={"batch_key": ["batch"], "recipe": recipe, "force": True},
        query_facts={"filename": "q.h5ad", "sha256": "0" * 64},
        threads=2,
        device="cpu",
    )


def test_queries_that_lack_modalities_are_mapped(reference: Path, tmp_path: Path) -> None:
    found = {
        lacks: _mapped(reference, tmp_path / str(i), lacks)
        for i, lacks in enumerate(("", "Peaks Antibody Capture", "Gene Expression"))
    }
    for latent in found.values():
        assert latent.shape == (40, 2)
        assert np.isfinite(latent).all()
    assert len({latent.tobytes() for latent in found.values()}) == 3


def test_a_batch_measured_in_several_ways_is_one_fit(reference: Path, tmp_path: Path) -> None:
    """Cells with genes alone, regions alone, both, and none of either share the rows of a batch."""
    cells = simulate({"c": 48}, seed=3)
    counts = cells.counts.toarray()
    genes, regions = slice(0, N_OF_GENES), slice(N_OF_GENES, N_OF_GENES + N_OF_REGIONS)
    counts[:, regions.stop :] = 0
    counts[0::4, regions] = 0
    counts[1::4, genes] = 0
    counts[47] = 0
    mixed = dataclasses.replace(cells, counts=sp.csr_matrix(counts))
    made = _ordered(reference, tmp_path / "mixed", mixed, recipe="converged")
    told = run_mapping(made, ReferenceCache(), nothing)
    (batch,) = told["batches"]
    assert batch["n_cells"] == 48
    assert told["n_empty_cells"] == 1
    latent = pd.read_parquet(made.out / "latent.parquet")
    assert np.isfinite(latent.to_numpy()).all()
    of_genes = mixed.take(np.arange(0, 48, 4))
    alone = _ordered(reference, tmp_path / "alone", of_genes, recipe="converged")
    run_mapping(alone, ReferenceCache(), nothing)
    apart = pd.read_parquet(alone.out / "latent.parquet")
    assert not apart.equals(latent.loc[apart.index]), "other ways of measuring take part in a fit"


def test_a_query_of_genes_alone_is_held_against_the_genes_of_own_cells(reference: Path) -> None:
    manifest, network = load_bundle(reference / "bundle")
    (own, *_) = manifest.own_fit or ()
    assert own.by_kind is not None
    assert set(own.by_kind) == {"gene", "region", "protein"}
    counts = 3 * simulate({"c": 40}, seed=3).counts.toarray()
    counts[:, N_OF_GENES:] = 0
    match = manifest.match_genes(QueryGenes.of({"index": manifest.genes.ids}, TYPES))
    loaded = LoadedReference(manifest.model_copy(update={"own_fit": (own,)}), network, "0" * 64)
    found = explain(loaded, reference / "bundle", sp.csr_matrix(counts), match)
    assert found.own_misfit == pytest.approx(own.by_kind["gene"], abs=1e-4)
    simulated = loaded.manifest.model_copy(update={"own_fit": None})
    loaded = LoadedReference(simulated, network, "0" * 64)
    found = explain(loaded, reference / "bundle", sp.csr_matrix(counts), match)
    (drawn,) = loaded.simulated.values()
    assert found.own_misfit == pytest.approx(drawn.by_run[0], abs=1e-4)
