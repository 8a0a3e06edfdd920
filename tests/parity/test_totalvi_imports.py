"""Models that scvi-tools 1.4.2 saved, and old ones, imported: their cells lie where they lay."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from app.problems import Problem
from models_store.cells import Cells
from models_store.scvi_weights import ConvertedModel
from models_store.totalvi import TOTALVI
from worker.imports.reference import read_model, run_import

from .errors import error
from .importing import import_order
from .sides import tensors_of
from .totalvi_oracle import TOTALVI_CONFIGURATIONS, _cells, train_reference

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

LIMIT = 1e-5


def _edited(save: Path, version: str, *, without: str) -> None:
    """Make a save what an older version would have written."""
    held = torch.load(save / "model.pt", weights_only=False)
    held["attr_dict"]["registry_"]["scvi_version"] = version
    held["attr_dict"]["init_params_"]["kwargs"]["model_kwargs"].pop("extra_decoder_kwargs")
    if without:
        del held["model_state_dict"][without]
    torch.save(held, save / "model.pt")


@torch.no_grad()
def _posterior(model: ConvertedModel, name: str, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    cells = _cells(TOTALVI_CONFIGURATIONS[name], tensors)
    network = model.network
    assert isinstance(network, TOTALVI)
    found = network.posterior(network.project(cells), cells.codes)
    return found.m, found.v


@pytest.mark.parametrize("name", TOTALVI_CONFIGURATIONS)
def test_an_imported_model(name: str, tmp_path: Path) -> None:
    theirs = train_reference(TOTALVI_CONFIGURATIONS[name])
    theirs.save(tmp_path / "save")
    model = read_model(import_order(tmp_path / "save", tmp_path / "work"))
    assert model.kind == "totalvi"
    assert model.architecture == TOTALVI_CONFIGURATIONS[name].architecture
    mean, variance = theirs.get_latent_representation(return_dist=True)
    found = _posterior(model, name, tensors_of(theirs))
    assert error(found[0], torch.as_tensor(mean)) < LIMIT
    assert error(found[1], torch.as_tensor(variance)) < LIMIT


@pytest.mark.parametrize("version", ["1.1.2", "1.2.0", "1.3.2"])
def test_a_save_keeps_the_maths_of_its_version(version: str, tmp_path: Path) -> None:
    """scvi-tools' own encoder, given the input that each version gave it."""
    name = "TOTALVI: recommended"
    theirs = train_reference(TOTALVI_CONFIGURATIONS[name])
    theirs.save(tmp_path / "save")
    since = version == "1.3.2"
    _edited(tmp_path / "save", version, without="" if since else "log_per_batch_efficiency")
    model = read_model(import_order(tmp_path / "save", tmp_path / "work"))
    assert model.architecture.background == ("exp" if version == "1.1.2" else "softplus")
    assert model.architecture.protein_efficiency == since
    tensors = tensors_of(theirs)
    parts = [tensors["X"], tensors["proteins"]]
    if since:
        parts = [part / (1 + part.mean(1, keepdim=True)) for part in parts]
    with torch.no_grad():
        q, *_ = theirs.module.encoder(torch.cat(parts, 1).log1p(), tensors["batch"])
    found = _posterior(model, name, tensors)
    assert error(found[0], q.loc) < LIMIT
    assert error(found[1], q.scale**2) < LIMIT


def test_a_bundle_of_genes_and_proteins(tmp_path: Path) -> None:
    name = "TOTALVI: panels, protein-batch dispersion, proteins missing"
    theirs = train_reference(TOTALVI_CONFIGURATIONS[name])
    theirs.save(tmp_path / "save")
    imported = run_import(
        import_order(tmp_path / "save", tmp_path / "work"), lambda: 1, lambda *_: None
    )
    manifest = imported.manifest
    assert manifest.kind == "totalvi"
    assert manifest.genes.counts() == {"gene": 30, "region": 0, "protein": 6}
    assert manifest.genes.ids[-1] == "protein5"
    assert sum(manifest.expected_expression) == pytest.approx(1)
    assert manifest.self_test is not None
    assert manifest.self_test.weights_load


@pytest.mark.parametrize("name", [*TOTALVI_CONFIGURATIONS][:3])
def test_cells_with_their_proteins(name: str, tmp_path: Path) -> None:
    """Of the file beside the save: genes of X, and proteins of the table that the save names."""
    theirs = train_reference(TOTALVI_CONFIGURATIONS[name])
    theirs.save(tmp_path / "save", save_anndata=True)
    order = import_order(tmp_path / "save", tmp_path / "work")
    imported = run_import(order, lambda: 1, lambda *_: None)
    table = pd.read_parquet(order.out / "cells.parquet")
    mean = table[[f"latent_{i}" for i in range(4)]].to_numpy()
    wanted = torch.as_tensor(theirs.get_latent_representation())
    assert error(torch.from_numpy(mean), wanted) < LIMIT
    assert imported.manifest.genes.counts() == {"gene": 30, "region": 0, "protein": 6}
    assert imported.manifest.self_test is not None
    assert imported.manifest.self_test.reference_reproduced


@pytest.mark.parametrize("width", [6, 5])
def test_proteins_that_the_save_alone_names(width: int, tmp_path: Path) -> None:
    """Before 0.15 an array of proteins lost its names: nothing in the cells' file has them."""
    import anndata

    name = "TOTALVI: recommended"
    theirs = train_reference(TOTALVI_CONFIGURATIONS[name])
    theirs.save(tmp_path / "save", save_anndata=True)
    adata = anndata.read_h5ad(tmp_path / "save" / "adata.h5ad")
    adata.obsm["proteins"] = adata.obsm["proteins"].to_numpy()[:, :width]
    adata.write_h5ad(tmp_path / "save" / "adata.h5ad")
    order = import_order(tmp_path / "save", tmp_path / "work")
    if width != 6:
        with pytest.raises(Problem, match="does not name its columns"):
            run_import(order, lambda: 1, lambda *_: None)
        return
    run_import(order, lambda: 1, lambda *_: None)
    table = pd.read_parquet(order.out / "cells.parquet")
    mean = table[[f"latent_{i}" for i in range(4)]].to_numpy()
    wanted = torch.as_tensor(theirs.get_latent_representation())
    assert error(torch.from_numpy(mean), wanted) < LIMIT


MODELS = Path(__file__).parents[3] / "shared" / "models"


@pytest.mark.parametrize("name", ["legacy_080/080_totalvi", "scvi_0150_totalvi"])
def test_a_published_model_encodes_as_scvi_tools_does(name: str, tmp_path: Path) -> None:
    """Of the older one only the encoder's weights are asked: 1.4.2 gives it another input."""
    import anndata
    import numpy as np
    import scvi

    if not (MODELS / name).is_dir():
        pytest.skip(f"{name} is not at hand (shared/models)")
    model, rng = (
        read_model(import_order(MODELS / name, tmp_path / "work")),
        np.random.default_rng(0),
    )
    adata = anndata.AnnData(rng.poisson(3.0, (40, 100)).astype(np.float32))
    adata.var_names = list(model.save.genes)
    adata.obs["batch"] = rng.choice(model.save.batch.categories, 40)
    adata.obs["labels"] = "label_0"
    adata.obsm["protein_expression"] = rng.poisson(5.0, (40, 100)).astype(np.float32)
    adata.uns["protein_names"] = list(model.save.proteins)
    folder = MODELS / name
    if model.save.is_legacy:
        folder = tmp_path / "converted"
        scvi.model.TOTALVI.convert_legacy_save(str(MODELS / name), str(folder))
    theirs = scvi.model.TOTALVI.load(folder, adata, accelerator="cpu")
    theirs.module.eval()
    (tensors,) = theirs._make_data_loader(theirs.adata, batch_size=40)
    parts = [tensors["X"], tensors["proteins"]]
    if not model.save.is_legacy:
        parts = [part / (1 + part.mean(1, keepdim=True)) for part in parts]
    network, batch = model.network, tensors["batch"]
    with torch.no_grad():
        q, *_ = theirs.module.encoder(torch.cat(parts, 1).log1p(), batch)
        cells = Cells(torch.cat([tensors["X"], tensors["proteins"]], 1), (batch.long()[:, 0],))
        found = network.posterior(network.project(cells), cells.codes)
    if not model.save.is_legacy:
        assert error(found.m, torch.as_tensor(theirs.get_latent_representation())) < LIMIT
    assert error(found.m, q.loc) < LIMIT
    assert error(found.v, q.scale**2) < LIMIT
