"""scvi-tools 1.4.2 loads a grafted network that was written in its terms, and sees the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models_store.cells import Cells
from models_store.manifest import Covariate, Manifest, Provenance
from models_store.scvi_export import QueryColumns
from models_store.scvi_weights import ConvertedModel
from models_store.totalvi import TOTALVI
from models_store.totalvi_export import PROTEINS, total_attributes, total_state_dict
from worker.imports.reference import _panel, read_model

from .errors import error
from .importing import import_order
from .totalvi_oracle import TOTALVI_CONFIGURATIONS, build, simulate

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

EXPORTABLE = [
    name
    for name, configuration in TOTALVI_CONFIGURATIONS.items()
    if not configuration.architecture.n_panels
]


def _manifest(name: str) -> Manifest:
    configuration = TOTALVI_CONFIGURATIONS[name]
    a = configuration.architecture
    names = tuple(f"GENE{i}" for i in range(a.n_genes)), tuple(f"protein{i}" for i in range(6))
    save = dataclasses.make_dataclass("Names", ["genes", "regions", "proteins", "features"])
    provenance = Provenance(
        cellgraft_version="0", torch_version="0", n_cells=1, seed=0, created_at=""
    )
    return Manifest(
        name="r",
        version=1,
        kind="totalvi",
        architecture=a,
        genes=_panel(save(names[0], (), names[1], names[0] + names[1])),
        batch=Covariate(key="batch", categories=configuration.reference_batches),
        extra_covariates=tuple(
            Covariate(key=key, categories=here) for key, (here, _) in configuration.extra.items()
        ),
        continuous_covariates=tuple(f"x{i}" for i in range(configuration.n_continuous)),
        size_factor_key="size" if a.library == "size_factor" else None,
        expected_expression=(1 / a.n_features,) * a.n_features,
        provenance=provenance,
    )


def _columns(name: str, manifest: Manifest) -> QueryColumns:
    configuration = TOTALVI_CONFIGURATIONS[name]
    old = [configuration.reference_batches, *(here for here, _ in configuration.extra.values())]
    asked = [configuration.query_batches, *(there for _, there in configuration.extra.values())]
    return QueryColumns(
        n_cells=90,
        batch="batch",
        labels=None,
        covariates=tuple(configuration.extra),
        continuous=manifest.continuous_covariates,
        size_factor=manifest.size_factor_key,
        categories=tuple(
            (*mine, *sorted(set(theirs) - set(mine)))
            for mine, theirs in zip(old, asked, strict=True)
        ),
    )


def _written(folder: Path, name: str, cells: anndata.AnnData) -> None:
    manifest = _manifest(name)
    held = {
        "model_state_dict": total_state_dict(build(name).query.network),
        "var_names": np.array(cells.var_names, dtype=object),
        "attr_dict": total_attributes(manifest, _columns(name, manifest)),
    }
    folder.mkdir()
    torch.save(held, folder / "model.pt")


@pytest.mark.parametrize("name", EXPORTABLE)
def test_scvi_tools_loads_it(name: str, tmp_path: Path) -> None:
    import scvi

    cells = simulate(TOTALVI_CONFIGURATIONS[name], query=True)
    cells.obsm[PROTEINS] = cells.obsm.pop("proteins")
    _written(tmp_path / "model", name, cells)
    loaded = scvi.model.TOTALVI.load(tmp_path / "model", cells, accelerator="cpu")
    side = build(name).query
    mean, variance = loaded.get_latent_representation(return_dist=True)
    with torch.no_grad():
        found = side.network.posterior(side.network.project(side.cells), side.cells.codes)
    assert error(found.m, torch.as_tensor(mean)) < 1e-5
    assert error(found.v, torch.as_tensor(variance)) < 1e-5
    ours = {k: v for k, v in total_state_dict(side.network).items() if "l_gene" not in k}
    for path, values in loaded.module.state_dict().items():
        if path in ours:
            assert torch.equal(values, ours[path]), path


def test_what_is_exported_can_be_imported(tmp_path: Path) -> None:
    name = EXPORTABLE[0]
    cells = simulate(TOTALVI_CONFIGURATIONS[name], query=True)
    _written(tmp_path / "model", name, cells)
    again: ConvertedModel = read_model(import_order(tmp_path / "model", tmp_path / "work"))
    assert isinstance(again.network, TOTALVI)
    side = build(name).query
    assert again.save.batch.categories == ("a", "b", "c", "d")
    them: Cells = side.cells
    with torch.no_grad():
        mine = side.network.posterior(side.network.project(them), them.codes)
        found = again.network.posterior(again.network.project(them), them.codes)
    assert torch.allclose(mine.m, found.m, atol=1e-6)
    assert load_file(tmp_path / "work" / "save" / "weights.safetensors")
