"""Building: genes, covariates, what is refused, and a bundle that proves itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
import torch

from app.problems import (
    InputKindMismatch,
    NoCells,
    TooFewGenes,
    TooManyBatches,
    UnknownBatchColumn,
    UnknownCovariate,
    UnknownLabelsColumn,
    UntrainableReference,
)
from models_store.bundle import CELLS_FILE, InvalidBundle, load_bundle, verify_bundle
from models_store.cells import Cells
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI
from tests.worker.engine.simulated import (
    Reference,
    build_reference,
    nothing,
    simulate,
    write_canonical,
)
from worker import drafting, training_plan
from worker.building import run_build
from worker.label_training import train_after_scvi
from worker.networks import draft_architecture
from worker.orders import BuildOrder
from worker.panel import choose_genes
from worker.reference_training import (
    Schedule,
    TrainedReference,
    mean_elbo,
    split_cells,
    train_reference,
)


def test_the_bundle_holds_what_it_says(recommended: Reference) -> None:
    manifest, cells = recommended.manifest, pd.read_parquet(recommended.folder / CELLS_FILE)
    assert manifest.batch.categories == ("ref-a", "ref-b")
    assert manifest.labels[0].categories == ("alpha", "beta")
    assert manifest.genes.symbols == manifest.genes.ids
    assert manifest.genes.ensembl is not None
    assert manifest.genes.ensembl[0].startswith("ENSG")
    assert sum(manifest.expected_expression) == pytest.approx(1)
    assert manifest.provenance.held_out_elbo is not None
    assert list(cells.columns) == [
        *(f"latent_{i}" for i in range(4)),
        *(f"variance_{i}" for i in range(4)),
        "batch",
        "cell_type",
    ]
    assert "tiny, version 1" in (recommended.folder / "MODEL_CARD.md").read_text()
    assert verify_bundle(recommended.folder) == manifest


@pytest.mark.parametrize("name", ["cells.parquet", "weights.safetensors", "probe.safetensors"])
def test_a_changed_or_missing_file_is_found(tmp_path: Path, name: str) -> None:
    made = build_reference(tmp_path, simulate({"a": 40, "b": 40}))
    path = made.folder / name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InvalidBundle, match=f"{name} has changed"):
        load_bundle(made.folder)
    path.unlink()
    with pytest.raises(InvalidBundle, match=f"{name} is missing"):
        verify_bundle(made.folder)


def test_highly_variable_genes_are_scanpys() -> None:
    cells = simulate({"a": 200, "b": 200}, n_genes=300)
    columns = {"index": [f"G{i}" for i in range(300)]}
    chosen = choose_genes(cells.counts, columns, cells.obs["batch"], given=None, n_top=50)
    data = anndata.AnnData(cells.counts, obs=cells.obs[["batch"]].astype("category"))
    theirs = scanpy.pp.highly_variable_genes(
        data, n_top_genes=50, flavor="seurat_v3", batch_key="batch", inplace=False
    )
    assert chosen.tolist() == np.flatnonzero(theirs["highly_variable"]).tolist()


def test_a_given_list_keeps_its_order_and_its_kind_of_name(tmp_path: Path) -> None:
    wanted = [f"ENSG{i:011d}" for i in (7, 3, 11)]
    made = build_reference(tmp_path, simulate({"a": 40, "b": 40}), genes=wanted)
    assert made.manifest.genes.ids == ("GENE7", "GENE3", "GENE11")
    with pytest.raises(TooFewGenes, match="nonsense"):
        build_reference(tmp_path / "x", simulate({"a": 40}), genes=["nonsense", "GENE1"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_key": "donor"}, UnknownBatchColumn),
        ({"labels_keys": ["type"]}, UnknownLabelsColumn),
        ({"architecture": {"n_layers": 0}}, UntrainableReference),
        ({"architecture": {"depth": 3}}, UntrainableReference),
        ({"architecture": {"library": "size_factor"}}, UntrainableReference),
        ({"architecture": {"dispersion": "gene-label"}, "labels_keys": []}, UntrainableReference),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict, problem: type) -> None:
    with pytest.raises(problem):
        build_reference(tmp_path, simulate({"a": 40, "b": 40}), **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_layers": 0}, "n_layers is 0, and must be above 0."),
        ({"dropout_rate": 1}, "dropout_rate is 1, and must be below 1."),
        ({"dropout_rate": -1}, "dropout_rate is -1, and must be at least 0."),
        ({"n_hidden": 10**6}, "n_hidden is 1000000, and must be at most 8192."),
        ({"n_latent": "ten"}, "n_latent is 'ten', and must be a whole number."),
        ({"n_latent": 2.5}, "n_latent is 2.5, and must be a whole number."),
        ({"log_variational": "maybe"}, "log_variational is 'maybe', and must be true or false."),
        ({"likelihood": "gauss"}, "must be one of 'nb', 'zinb', 'poisson' or 'normal'."),
        ({"depth": 3}, "The architecture has no option 'depth'; it has n_hidden, n_latent,"),
        ({"n_genes": 5}, "n_genes follows from the genes that are chosen."),
    ],
)
def test_architecture_options_are_refused_in_plain_words(options: dict, sentence: str) -> None:
    with pytest.raises(UntrainableReference) as caught:
        draft_architecture({"architecture": options}, "counts")
    assert sentence in caught.value.detail
    assert "pydantic" not in caught.value.detail
    assert caught.value.errors[0]["pointer"] == f"/architecture/{next(iter(options))}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"architecture": {"n_layers": 0}}, UntrainableReference),
        ({"architecture": {"likelihood": "normal"}}, InputKindMismatch),
        ({"labels_keys": ["type"]}, UnknownLabelsColumn),
        ({"extra_categorical": ["chip"]}, UnknownCovariate),
        ({"continuous": ["cell_type"]}, UnknownCovariate),
        ({"size_factor_key": "age"}, UnknownCovariate),
        ({"batch_key": "barcode"}, TooManyBatches),
    ],
)
def test_what_is_wrong_is_told_before_genes_are_chosen(
    options: dict, problem: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("genes were chosen")

    monkeypatch.setattr(drafting, "choose_panel", too_late)
    cells = simulate({"a": 60, "b": 60})
    cells.obs["barcode"] = cells.obs.index
    query = write_canonical(tmp_path / "canonical", cells)
    wanted = {"batch_key": "batch", **options}
    order = BuildOrder("n", 1, tmp_path / "canonical", tmp_path, wanted, {}, 1, "cpu")
    with pytest.raises(problem):
        drafting.draft_manifest(order, query)


@pytest.mark.parametrize("name", ["batch", "latent_0", "variance_3", "umap_1"])
def test_labels_that_would_replace_a_column_of_the_cells(name: str, tmp_path: Path) -> None:
    cells = simulate({"a": 40, "b": 40})
    cells.obs[name] = cells.obs["cell_type"]
    with pytest.raises(UntrainableReference, match=f"cannot be called '{name}'") as caught:
        build_reference(tmp_path, cells, batch_key="plate", labels_keys=["cell_type", name])
    assert caught.value.errors[0]["pointer"] == f"/obs/{name}"


def test_labels_may_be_called_nearly_like_a_column_of_the_cells(tmp_path: Path) -> None:
    cells = simulate({"a": 40, "b": 40})
    cells.obs["latent_type"] = cells.obs["cell_type"]
    made = build_reference(tmp_path, cells, labels_keys=["latent_type"])
    table = pd.read_parquet(made.folder / CELLS_FILE)
    assert list(table["latent_type"]) == list(cells.obs["cell_type"])


def test_a_diverged_training_is_found_without_held_out_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(cvae: SCVI, *_: object) -> TrainedReference:
        with torch.no_grad():
            next(iter(cvae.parameters())).fill_(torch.nan)
        cvae.eval()
        return TrainedReference(1, None, 0.0)

    monkeypatch.setattr(training_plan, "train_reference", diverge)
    with pytest.raises(UntrainableReference, match="no finite coordinates"):
        build_reference(tmp_path, simulate({"a": 40, "b": 40}))


def test_too_few_cells_and_the_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(NoCells):
        build_reference(tmp_path / "few", simulate({"a": 5}))
    write_canonical(tmp_path / "canonical", simulate({"a": 40}))
    options = {"batch_key": "batch", "architecture": {"likelihood": "normal"}, "max_epochs": 1}
    order = BuildOrder("n", 1, tmp_path / "canonical", tmp_path, options, {}, 1, "cpu")
    with pytest.raises(InputKindMismatch):
        run_build(order, nothing)


def test_training_raises_the_held_out_elbo(recommended: Reference) -> None:
    cells = simulate({"a": 300, "b": 300})
    x = torch.from_numpy(cells.counts.toarray())
    batch = torch.from_numpy((cells.obs["batch"] == "b").to_numpy().astype(np.int64))
    held_out = Cells(x[:60], (batch[:60],))
    torch.manual_seed(0)
    network = SCVI(recommended.manifest.architecture, n_categories=[2])
    before = mean_elbo(network.eval(), held_out, seed=0)
    trained = train_reference(
        network, Cells(x[60:], (batch[60:],)), held_out, Schedule(15, 0), lambda share: None
    )
    assert trained.held_out_elbo is not None
    assert trained.held_out_elbo > before + 5
    assert not network.training


def test_labels_are_learnt_at_the_whole_kl_weight_from_the_first_step(
    labelled: Reference,
) -> None:
    """The SCVI before them has warmed up."""
    weights: dict[bool, list[float]] = {False: [], True: []}

    class Plain(SCVI):
        def training_loss(self, *given: Any, **labels: Any) -> torch.Tensor:
            weights[False].append(given[2])
            return super().training_loss(*given, **labels)

    class Labelled(SCANVI):
        def training_loss(self, *given: Any, **labels: Any) -> torch.Tensor:
            weights[True].append(given[2])
            return super().training_loss(*given, **labels)

    architecture = labelled.manifest.architecture
    simulated = simulate({"a": 60, "b": 60})
    x = torch.from_numpy(simulated.counts.toarray())
    batch = torch.from_numpy((simulated.obs["batch"] == "b").to_numpy().astype(np.int64))
    cells = Cells(x, (batch,), labels=batch)
    plain = Plain(architecture, n_categories=[2])
    train_after_scvi(
        Labelled(architecture, n_categories=[2], n_labels=2),
        plain,
        cells,
        None,
        Schedule(4, 0),
        nothing,
    )
    assert weights[False] == [0.0, 0.5, 1.0, 1.0]
    assert weights[True] == [1.0] * 2


def test_split_is_a_partition() -> None:
    training, held_out = split_cells(100, 0.1, seed=3)
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(100))
    assert len(held_out) == 10
