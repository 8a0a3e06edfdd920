"""Models of MULTIVI that scvi-tools 1.4.2 saved, imported: their cells lie where they lay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.problems import InconsistentSave, UnsupportedSave
from models_store.bundle import load_bundle
from models_store.manifest import Architecture
from models_store.multivi import MULTIVI
from worker.imports.reference import read_model, run_import

from .errors import error
from .importing import import_order
from .multivi_configurations import CONFIGURATIONS
from .multivi_oracle import cells_of, train_reference

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

LIMIT = 1e-5
TRIMODAL = "MULTIVI: genes, regions, proteins, unpaired, encoded, deep"
PAIRED = "MULTIVI: scvi-tools' own defaults, genes and regions, paired"


def _edited(save: Path, change: Callable[[dict[str, Any]], None]) -> None:
    held = torch.load(save / "model.pt", weights_only=False)
    change(held)
    torch.save(held, save / "model.pt")


def _told(name: str) -> Architecture:
    """The architecture as a save tells it, with the depth of the decoders."""
    a = CONFIGURATIONS[name].architecture
    return a.model_copy(update={"n_layers_decoder": a.n_layers_decoder or a.n_layers})


@torch.no_grad()
def _assert_encodes_as(network: Any, theirs: Any) -> None:
    (tensors,) = theirs._make_data_loader(adata=theirs.adata, batch_size=theirs.adata.n_obs)
    cells = cells_of(tensors)
    if cells.size_factor is None:  # no latent depends on it
        cells = dataclasses.replace(cells, size_factor=torch.ones(len(cells.x)))
    assert isinstance(network, MULTIVI)
    found = network.posterior(network.project(cells), cells.codes)
    mean, variance = theirs.get_latent_representation(return_dist=True)
    assert error(found.m, torch.as_tensor(mean)) < LIMIT
    assert error(found.v, torch.as_tensor(variance)) < LIMIT


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_an_imported_model(name: str, tmp_path: Path) -> None:
    configuration = CONFIGURATIONS[name]
    theirs = train_reference(configuration)
    theirs.save(tmp_path / "save")
    order = import_order(tmp_path / "save", tmp_path / "work")
    model = read_model(order)
    assert model.kind == "multivi"
    assert model.architecture == _told(name)
    assert model.save.batch.categories == configuration.reference_batches
    _assert_encodes_as(model.network, theirs)
    assert [len(model.save.genes), len(model.save.regions), len(model.save.proteins)] == list(
        configuration.architecture.counts().values()
    )


def test_a_sealed_bundle(tmp_path: Path) -> None:
    theirs = train_reference(CONFIGURATIONS[TRIMODAL])
    theirs.save(tmp_path / "save")
    order = import_order(tmp_path / "save", tmp_path / "work")
    manifest = run_import(order, lambda: 1, lambda _stage, _share: None).manifest
    kinds = {run.kind: run.count for run in manifest.genes.modalities or ()}
    assert kinds == {"gene": 30, "region": 36, "protein": 5}
    assert manifest.genes.ids[29:31] == ("rna29", "atac0")
    assert manifest.self_test is not None
    _, network = load_bundle(tmp_path / "work" / "bundle")
    _assert_encodes_as(network, theirs)


def _as_one_table(held: dict[str, Any]) -> None:
    """As versions before 1.4 could be set up: genes, then regions, in one AnnData."""
    registry = held["attr_dict"]["registry_"]
    names = held["var_names"]
    held["var_names"] = [*names["rna"], *names["atac"]]
    fields = registry["field_registries"]
    atac = fields.pop("atac")
    x = fields["X"]["state_registry"]
    x["column_names"] = [*x["column_names"], *atac["state_registry"]["column_names"]]
    x["n_vars"] = len(x["column_names"])
    fields["X"]["summary_stats"]["n_vars"] = x["n_vars"]
    registry["setup_args"].pop("modalities")
    registry["setup_method_name"] = "setup_anndata"
    registry["scvi_version"] = "1.1.2"


def _without_weights_and_proteins(held: dict[str, Any]) -> None:
    """As before 0.18, when it knew no proteins and no weights of modalities."""
    _as_one_table(held)
    state = held["model_state_dict"]
    dropped = ("z_encoder_protein.", "z_decoder_pro.", "background_pro", "py_r", "mod_weights")
    for name in [name for name in state if name.startswith(dropped)]:
        del state[name]
    held["attr_dict"]["registry_"]["scvi_version"] = "0.17.4"
    for option in ("modality_weights", "modality_penalty", "protein_dispersion", "dispersion"):
        del held["attr_dict"]["init_params_"]["non_kwargs"][option]


def _of_0_18(held: dict[str, Any]) -> None:
    """As in 0.18 alone, which says how the background of proteins begins."""
    _as_one_table(held)
    held["attr_dict"]["registry_"]["scvi_version"] = "0.18.0"
    options = held["attr_dict"]["init_params_"]["non_kwargs"]
    options |= {"n_proteins": 0, "empirical_protein_background_prior": True}


@pytest.mark.parametrize(
    ("change", "penalty"),
    [
        (_as_one_table, "Jeffreys"),
        (_of_0_18, "Jeffreys"),
        (_without_weights_and_proteins, "exact Jeffreys"),
    ],
)
def test_older_saves(
    change: Callable[[dict[str, Any]], None], penalty: str, tmp_path: Path
) -> None:
    theirs = train_reference(CONFIGURATIONS[PAIRED])
    theirs.save(tmp_path / "save")
    _edited(tmp_path / "save", change)
    model = read_model(import_order(tmp_path / "save", tmp_path / "work"))
    told = _told(PAIRED).model_copy(update={"modality_penalty": penalty})
    assert model.architecture == told
    _assert_encodes_as(model.network, theirs)


def test_sizes_that_an_older_save_leaves_to_the_data(tmp_path: Path) -> None:
    """Until 0.17 the root of genes and regions together, later of the regions alone."""
    import scvi

    theirs = train_reference(CONFIGURATIONS[PAIRED])
    model = scvi.model.MULTIVI(theirs.adata, n_hidden=8, n_latent=2)
    model.is_trained_ = True
    model.module.eval()
    model.save(tmp_path / "save")

    def change(held: dict[str, Any]) -> None:
        _without_weights_and_proteins(held)
        held["attr_dict"]["init_params_"]["non_kwargs"] |= {"n_hidden": None, "n_latent": None}

    _edited(tmp_path / "save", change)
    found = read_model(import_order(tmp_path / "save", tmp_path / "work"))
    assert (found.architecture.n_hidden, found.architecture.n_latent) == (8, 2)
    _assert_encodes_as(found.network, model)


def test_a_save_with_one_size_factor_encodes_its_depth(tmp_path: Path) -> None:
    """As before scvi-tools took two."""

    def with_one(held: dict[str, Any]) -> None:
        _as_one_table(held)
        held["attr_dict"]["registry_"]["setup_args"]["size_factor_key"] = "size"

    theirs = train_reference(CONFIGURATIONS[PAIRED])
    theirs.save(tmp_path / "save")
    _edited(tmp_path / "save", with_one)
    order = import_order(tmp_path / "save", tmp_path / "work")
    model = read_model(order)
    assert isinstance(model.network, MULTIVI)
    assert (model.architecture.library, model.architecture.depth_factor) == ("size_factor", False)
    assert model.network.library_encoder is None
    assert model.network.depth_encoder is not None
    _assert_encodes_as(model.network, theirs)
    manifest = run_import(order, lambda: 1, lambda _stage, _share: None).manifest
    assert (manifest.size_factor_key, manifest.depth_key) == ("size", None)


def _weights_by_cell(held: dict[str, Any]) -> None:
    held["attr_dict"]["init_params_"]["non_kwargs"]["modality_weights"] = "cell"


def _dispersion_by_batch(held: dict[str, Any]) -> None:
    held["attr_dict"]["init_params_"]["non_kwargs"]["dispersion"] = "gene-batch"


def _three_size_factors(held: dict[str, Any]) -> None:
    held["attr_dict"]["registry_"]["setup_args"]["size_factor_key"] = ["a", "b", "c"]


def _protein_dispersion_by_label(held: dict[str, Any]) -> None:
    held["attr_dict"]["init_params_"]["non_kwargs"]["protein_dispersion"] = "protein-label"


def _an_option_of_tomorrow(held: dict[str, Any]) -> None:
    held["attr_dict"]["init_params_"]["kwargs"]["model_kwargs"]["warp"] = True


def _another_feature(held: dict[str, Any]) -> None:
    held["var_names"]["atac"] = [*held["var_names"]["atac"], "one more"]


def _a_feature_twice(held: dict[str, Any]) -> None:
    for names in (
        held["var_names"]["atac"],
        held["attr_dict"]["registry_"]["field_registries"]["atac"]["state_registry"][
            "column_names"
        ],
    ):
        names[1] = names[0]


def _a_shape_of_another_size(held: dict[str, Any]) -> None:
    held["model_state_dict"]["region_factors"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "problem", "says"),
    [
        (_weights_by_cell, UnsupportedSave, "modality_weights='cell'"),
        (_dispersion_by_batch, UnsupportedSave, "dispersion='gene-batch'"),
        (_three_size_factors, InconsistentSave, "a MULTIVI has two"),
        (_protein_dispersion_by_label, UnsupportedSave, "protein_dispersion='protein-label'"),
        (_an_option_of_tomorrow, UnsupportedSave, "warp"),
        (_another_feature, InconsistentSave, "different genes"),
        (_a_feature_twice, InconsistentSave, "lists a region twice"),
        (_a_shape_of_another_size, InconsistentSave, "region_factors"),
    ],
)
def test_refused(
    change: Callable[[dict[str, Any]], None],
    problem: type[Exception],
    says: str,
    tmp_path: Path,
) -> None:
    train_reference(CONFIGURATIONS[PAIRED]).save(tmp_path / "save")
    _edited(tmp_path / "save", change)
    with pytest.raises(problem) as raised:
        read_model(import_order(tmp_path / "save", tmp_path / "work"))
    assert says in str(raised.value.args)


def test_sizes_that_a_save_leaves_to_the_data(tmp_path: Path) -> None:
    import scvi

    theirs = train_reference(CONFIGURATIONS[PAIRED])
    model = scvi.model.MULTIVI(theirs.adata)
    model.is_trained_ = True
    model.module.eval()
    model.save(tmp_path / "save")
    found = read_model(import_order(tmp_path / "save", tmp_path / "work"))
    assert (found.architecture.n_hidden, found.architecture.n_latent) == (6, 2)
    _assert_encodes_as(found.network, model)
