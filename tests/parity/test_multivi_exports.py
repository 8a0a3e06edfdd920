"""scvi-tools 1.4.2 loads a grafted MULTIVI that was written in its terms, and sees the same."""

from __future__ import annotations

from pathlib import Path

import anndata
import pytest
import scipy.sparse as sp
import torch

from models_store.gene_panel import Genes, Modality
from models_store.manifest import Covariate, Manifest, Provenance
from models_store.multivi_export import multi_attributes, multi_state_dict, var_names
from models_store.scvi_export import QueryColumns
from worker.imports.reference import read_model
from worker.mudata_files import write_h5mu

from .errors import error
from .importing import import_order
from .multivi_configurations import CONFIGURATIONS
from .multivi_oracle import build

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


SIZED = "MULTIVI: size factor and depth given, unpaired"


def _manifest(name: str) -> Manifest:
    configuration = CONFIGURATIONS[name]
    a, extra = configuration.architecture, []
    if configuration.plates:
        extra.append(Covariate(key="plate", categories=("p0", "p1", "p2")))
    n = a.n_features
    return Manifest(
        name="r",
        version=1,
        kind="multivi",
        architecture=a,
        genes=Genes(
            ids=tuple(f"{m}{i}" for m, k in configuration.modalities.items() for i in range(k)),
            modalities=tuple(Modality(kind=k, count=m) for k, m in a.counts().items() if m),
        ),
        batch=Covariate(key="batch", categories=configuration.reference_batches),
        extra_covariates=tuple(extra),
        continuous_covariates=tuple(f"x{i}" for i in range(configuration.n_continuous)),
        size_factor_key="size" if configuration.size_factors else None,
        depth_key="depth" if configuration.size_factors else None,
        expected_expression=(1 / n,) * n,
        provenance=Provenance(
            cellgraft_version="0", torch_version="0", n_cells=1, seed=0, created_at=""
        ),
    )


def _columns(name: str, manifest: Manifest) -> QueryColumns:
    configuration = CONFIGURATIONS[name]
    new = sorted(set(configuration.query_batches) - set(configuration.reference_batches))
    categories = [(*configuration.reference_batches, *new)]
    if configuration.plates:
        categories.append(("p0", "p1", "p2", "p9"))
    return QueryColumns(
        n_cells=130,
        batch="batch",
        labels=None,
        covariates=("plate",) if configuration.plates else (),
        continuous=manifest.continuous_covariates,
        size_factor=manifest.size_factor_key,
        depth=manifest.depth_key,
        categories=tuple(categories),
    )


def _written(folder: Path, name: str, manifest: Manifest) -> None:
    held = {
        "model_state_dict": multi_state_dict(build(name).query.network),
        "var_names": var_names(manifest),
        "attr_dict": multi_attributes(manifest, _columns(name, manifest)),
    }
    folder.mkdir()
    torch.save(held, folder / "model.pt")
    cells = build(name).query.model.adata
    obs = cells.obs[[key for key in cells.obs if not key.startswith("_")]]
    parts = {
        each: anndata.AnnData(sp.csr_matrix(part.X), obs=part.obs[[]], var=part.var[[]])
        for each, part in cells.mod.items()
    }
    write_h5mu(folder / "mdata.h5mu", obs, parts)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_scvi_tools_loads_it(name: str, tmp_path: Path) -> None:
    import scvi

    manifest, side = _manifest(name), build(name).query
    _written(tmp_path / "model", name, manifest)
    loaded = scvi.model.MULTIVI.load(tmp_path / "model", accelerator="cpu")
    mean, variance = loaded.get_latent_representation(return_dist=True)
    with torch.no_grad():
        found = side.network.posterior(side.network.project(side.cells), side.cells.codes)
    assert error(found.m, torch.as_tensor(mean)) < 1e-5
    assert error(found.v, torch.as_tensor(variance)) < 1e-5
    # What scvi-tools' own query model holds, but for what neither network looks at.
    for path, values in multi_state_dict(side.network).items():
        theirs = side.module.state_dict()[path]
        assert values.shape == theirs.shape, path


@pytest.mark.parametrize("name", [*list(CONFIGURATIONS)[:3], SIZED])
def test_what_is_exported_can_be_imported(name: str, tmp_path: Path) -> None:
    manifest, side = _manifest(name), build(name).query
    _written(tmp_path / "model", name, manifest)
    again = read_model(import_order(tmp_path / "model", tmp_path / "work"))
    assert again.save.batch.categories == ("a", "b", "c", "d")
    assert again.save.features == manifest.genes.ids
    assert again.save.size_factor_key == manifest.size_factor_key
    assert again.save.depth_key == manifest.depth_key
    with torch.no_grad():
        mine = side.network.posterior(side.network.project(side.cells), side.cells.codes)
        found = again.network.posterior(again.network.project(side.cells), side.cells.codes)
    assert torch.allclose(mine.m, found.m, atol=1e-6)
    assert torch.allclose(mine.v, found.v, atol=1e-6)
