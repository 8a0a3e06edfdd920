"""Published models, where they are at hand: files that today's scvi-tools cannot all open."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from app.references import manifest_digest
from tests.worker.engine.simulated import Simulated, nothing, write_canonical
from worker.mapping import run_mapping
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache

from .files import import_save

SHARED = Path(__file__).parents[4] / "shared"
MODELS, DATA = SHARED / "models", SHARED / "data"

EXPECTED = {
    "archmap_scvi_pancreas": ("0.16.1", 1000, 3, True),
    "legacy_080/080_scvi": ("0.0.0", 100, 2, False),
    "scvi_0150_scvi": ("0.15.5", 100, 2, False),
}


def model(name: str) -> Path:
    if not (MODELS / name).is_dir():
        pytest.skip(f"{name} is not at hand (shared/models)")
    return MODELS / name


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_model_is_imported(name: str, tmp_path: Path) -> None:
    manifest = import_save(model(name), tmp_path).manifest
    version, n_genes, n_batches, has_effect = EXPECTED[name]
    assert manifest.provenance.settings["scvi_tools_version"] == version
    assert manifest.architecture.n_genes == n_genes
    assert len(manifest.batch.categories) == n_batches
    assert manifest.surgery_has_effect is has_effect
    assert manifest.self_test is not None
    assert manifest.self_test.padded_cells_map


@pytest.mark.parametrize("name", ["legacy_080/080_totalvi", "scvi_0150_totalvi"])
def test_a_totalvi_model_keeps_the_maths_of_its_version(name: str, tmp_path: Path) -> None:
    manifest = import_save(model(name), tmp_path).manifest
    legacy = name.startswith("legacy")
    assert manifest.kind == "totalvi"
    assert manifest.genes.counts() == {"gene": 100, "region": 0, "protein": 100}
    assert manifest.architecture.background == ("exp" if legacy else "softplus")
    assert manifest.architecture.protein_efficiency is not legacy
    assert manifest.self_test is not None
    assert manifest.self_test.padded_cells_map


def test_pancreas_cells_map_onto_the_pancreas_model(tmp_path: Path) -> None:
    """Real islets: what was log2 of expression is unlogged and rounded, and stands for counts."""
    reference = import_save(model("archmap_scvi_pancreas"), tmp_path)
    file = DATA / "pancreas_xin_lognorm/pancreas_xin_lognorm.h5ad"
    if not file.is_file():
        pytest.skip("the pancreas cells are not at hand (shared/data)")
    cells = anndata.read_h5ad(file)
    counts = sp.csr_matrix(cells.X, dtype=np.float64)
    counts.data = np.rint(np.exp2(counts.data) - 1)
    counts.eliminate_zeros()
    obs = cells.obs.assign(batch="xin")[["batch"]]
    query = tmp_path / "q"
    write_canonical(query, Simulated(counts.astype(np.float32), obs))
    names = {"index": list(cells.var_names), "columns": {}}
    (query / "genes.json").write_text(json.dumps(names))
    (tmp_path / "out").mkdir()
    order = MapOrder(
        mapping_id="m",
        canonical=query,
        bundle=tmp_path / "bundle",
        manifest_sha256=manifest_digest(reference.manifest.model_dump(mode="json")),
        out=tmp_path / "out",
        options={"batch_key": ["batch"], "recipe": "default", "force": True},
        query_facts={},
        threads=2,
        device="cpu",
    )
    summary = run_mapping(order, ReferenceCache(), nothing)
    assert summary["has_effect"]
    assert summary["n_genes_matched"] > 100  # of 1,000: refused, were it not forced
    assert summary["verdict"]["result"] == "fail"
    latent = np.load(tmp_path / "out/latent.npy")
    assert latent.shape == (cells.n_obs, 10)
    assert np.isfinite(latent).all()
    assert summary["movement"]["max"] > 0
