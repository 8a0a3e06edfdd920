"""Building: genes, covariates, what is refused, and a bundle that proves itself."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import scanpy
import torch

from app.problems import (
    InputKindMismatch,
    NoCells,
    TooFewGenes,
    UnknownBatchColumn,
    UnknownLabelsColumn,
    UntrainableReference,
)
from models_store.bundle import InvalidBundle, load_bundle, load_cells, verify_bundle
from models_store.scvi import SCVI, Cells
from tests.worker.engine.simulated import (
    Reference,
    build_reference,
    nothing,
    simulate,
    write_canonical,
)
from worker.building import run_build
from worker.orders import BuildOrder
from worker.panel import choose_genes
from worker.reference_training import Schedule, mean_elbo, split_cells, train_reference


def test_the_bundle_holds_what_it_says(recommended: Reference) -> None:
    manifest, cells = recommended.manifest, load_cells(recommended.folder)
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


def test_split_is_a_partition() -> None:
    training, held_out = split_cells(100, 0.1, seed=3)
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(100))
    assert len(held_out) == 10
