"""The reference's cells: counts, minified data or latents alone; labels, batches, a UMAP."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from app.problems import NotCounts, UnfitCells, UnknownBatchColumn, UnknownLabelsColumn
from models_store.architecture import Architecture
from models_store.bundle import CELLS_FILE, verify_bundle
from models_store.manifest import LabelLevel
from worker import own_fit
from worker.imports.cell_sources import LatentBlock
from worker.imports.cell_table import ROW_GROUP, CellColumns, write_cells
from worker.imports.order import ImportOptions
from worker.imports.reference_cells import _Reading
from worker.imports.telling import tell

from .files import import_save, latents_of, read_cells, write_counts, write_minified
from .saves import GENES, Model, some_cells, write

MODEL = Model()
CELLS = some_cells(MODEL)
UMAP = np.random.default_rng(3).normal(size=(40, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "save", MODEL, "1.4.2")


def test_without_cells_there_is_no_table(folder: Path, tmp_path: Path) -> None:
    imported = import_save(folder, tmp_path / "work")
    assert not (tmp_path / "work/bundle" / CELLS_FILE).exists()
    assert CELLS_FILE not in imported.manifest.files
    assert imported.manifest.self_test is not None
    assert imported.manifest.self_test.reference_reproduced is None
    assert sum(imported.manifest.expected_expression) == pytest.approx(1)
    assert imported.manifest.provenance.n_cells == 40  # what the save says
    assert imported.manifest.own_fit is None
    verify_bundle(tmp_path / "work/bundle")
    told = " ".join(tell(imported))
    assert "No cells came with it" in told
    assert "Surgery has an effect" in told


def test_counts_give_latents_expression_levels_and_a_umap(folder: Path, tmp_path: Path) -> None:
    file = write_counts(tmp_path / "c.h5ad", MODEL, CELLS, obsm={"X_umap": UMAP})
    imported = import_save(
        folder,
        tmp_path / "work",
        path=file,
        labels_keys=("fine", "cell_type"),
        umap_key="X_umap",
    )
    manifest, table = imported.manifest, read_cells(tmp_path / "work")
    assert [level.key for level in manifest.labels] == ["fine", "cell_type"]
    assert manifest.labels[0].categories == tuple(f"fine {i}" for i in range(5))
    assert list(table.columns[6:]) == ["batch", "fine", "cell_type", "umap_0", "umap_1"]
    assert list(table["fine"]) == [f"fine {i % 5}" for i in range(40)]
    assert np.allclose(table[["umap_0", "umap_1"]], UMAP, rtol=1e-6)
    shares = (CELLS.x / CELLS.x.sum(1, keepdims=True)).mean(0)
    assert np.allclose(manifest.expected_expression, shares / shares.sum(), rtol=1e-6)
    assert "encoded from `X`" in " ".join(tell(imported))


def test_counts_say_how_far_the_cells_are_from_the_forward_pass(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_fit, "LIBRARY_SIZES", (4, 8, 100_000))
    file = write_counts(tmp_path / "c.h5ad", MODEL, CELLS)
    found = import_save(folder, tmp_path / "work", path=file).manifest.own_fit
    assert found is not None
    assert [(own.library_size, own.cells) for own in found] == [(4, "all"), (8, "all")]


def test_the_decoder_expects_genes_where_there_are_no_counts(folder: Path, tmp_path: Path) -> None:
    """The decoder's mean over z ~ N(0, I) and batches, by a plain average in numpy."""
    manifest = import_save(folder, tmp_path / "work").manifest
    state = {name: t.double().numpy() for name, t in MODEL.state.items()}
    rng, total = np.random.default_rng(0), np.zeros(len(GENES))
    for batch in range(2):
        batches = np.tile(np.eye(2)[batch], (20_000, 1))
        h = np.concatenate([rng.normal(size=(20_000, 3)), batches], axis=1)
        for i in range(2):
            layer = f"decoder.px_decoder.fc_layers.Layer {i}.0"
            if i:
                h = np.concatenate([h, batches], axis=1)
            h = h @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
            h = np.maximum(h, 0)
        scale, drop = (
            h @ state[f"decoder.{head}.weight"].T + state[f"decoder.{head}.bias"]
            for head in ("px_scale_decoder.0", "px_dropout_decoder")
        )
        mu = np.exp(scale) / (1 + np.exp(drop))
        total += (mu / mu.sum(1, keepdims=True)).mean(0)
    assert np.allclose(manifest.expected_expression, total / total.sum(), rtol=0.05)


@pytest.mark.parametrize("key", ["scvi_latent", "_scvi_latent", "X_latent"])
def test_minified_data_beside_the_save(key: str, folder: Path, tmp_path: Path) -> None:
    """Under the names of scvi-tools 0.18 to 1.5, without being asked for."""
    write_minified(folder / "adata.h5ad", MODEL, CELLS, key=key)
    imported = import_save(folder, tmp_path / "work")
    mean, variance = CELLS.latents(MODEL)
    table = read_cells(tmp_path / "work")
    assert np.array_equal(latents_of(table), mean.astype(np.float32))
    assert np.array_equal(latents_of(table, "variance"), variance.astype(np.float32))
    assert f"obsm/{key}_qzm" in " ".join(tell(imported))
    left_out = import_save(folder, tmp_path / "none", left_out=True)
    assert CELLS_FILE not in left_out.manifest.files


def test_latents_alone_have_no_variance(folder: Path, tmp_path: Path) -> None:
    mean, _ = CELLS.latents(MODEL)
    file = write_counts(tmp_path / "c.h5ad", MODEL, CELLS, obsm={"X_atlas": mean})
    import_save(folder, tmp_path / "work", path=file, latent_key="obsm/X_atlas")
    table = read_cells(tmp_path / "work")
    assert np.array_equal(latents_of(table), mean.astype(np.float32))
    assert latents_of(table, "variance").shape == (40, 0)


def test_minified_data_that_kept_their_counts_are_encoded(folder: Path, tmp_path: Path) -> None:
    wrong = np.zeros((40, 3))
    uns = {"_scvi_adata_minify_type": "latent_posterior_parameters_with_counts"}
    parts = {"obsm": {"scvi_latent_qzm": wrong, "scvi_latent_qzv": wrong}, "uns": uns}
    write_counts(folder / "adata.h5ad", MODEL, CELLS, **parts)
    import_save(folder, tmp_path / "work")
    mean, _ = CELLS.latents(MODEL)
    assert np.abs(latents_of(read_cells(tmp_path / "work")) - mean).max() < 1e-5


def test_counts_may_lie_in_the_layer_that_the_model_was_trained_on(tmp_path: Path) -> None:
    import torch

    folder = write(tmp_path / "save", MODEL, "1.4.2")
    saved = torch.load(folder / "model.pt", weights_only=False)
    saved["attr_dict"]["registry_"]["setup_args"]["layer"] = "counts"
    torch.save(saved, folder / "model.pt")
    file = write_counts(tmp_path / "c.h5ad", MODEL, CELLS, layers={"counts": CELLS.x})
    adata = anndata.read_h5ad(file)
    adata.X = np.log1p(adata.X.toarray())
    adata.write_h5ad(file)
    import_save(folder, tmp_path / "work", path=file)
    mean, _ = CELLS.latents(MODEL)
    assert np.abs(latents_of(read_cells(tmp_path / "work")) - mean).max() < 1e-5
    with pytest.raises(NotCounts):
        import_save(folder, tmp_path / "again", path=file, layer="X")


def test_names_of_another_kind_come_from_the_cells(folder: Path, tmp_path: Path) -> None:
    file = write_counts(tmp_path / "c.h5ad", MODEL, CELLS)
    adata = anndata.read_h5ad(file)
    adata.var["gene_ids"] = [f"ENSG{i:011d}" for i in range(len(GENES))]
    adata.write_h5ad(file)
    genes = import_save(folder, tmp_path / "work", path=file).manifest.genes
    assert genes.ids == genes.symbols == GENES
    assert genes.ensembl == tuple(f"ENSG{i:011d}" for i in range(len(GENES)))


def test_genes_beside_the_panel_are_passed_over(folder: Path, tmp_path: Path) -> None:
    genes = ("other", *GENES[6:], *GENES[:6])
    file = write_counts(tmp_path / "c.h5ad", MODEL, CELLS, genes=genes)
    import_save(folder, tmp_path / "work", path=file)
    mean, _ = CELLS.latents(MODEL)
    assert np.abs(latents_of(read_cells(tmp_path / "work")) - mean).max() < 1e-5


def renamed(folder: Path, **columns: str) -> Path:
    file = write_counts(folder / "renamed.h5ad", MODEL, CELLS)
    adata = anndata.read_h5ad(file)
    adata.obs = adata.obs.rename(columns=columns)
    adata.write_h5ad(file)
    return file


def test_a_batch_column_may_have_been_renamed(folder: Path, tmp_path: Path) -> None:
    file = renamed(tmp_path, sample="donor")
    with pytest.raises(UnknownBatchColumn, match="no column 'sample'"):
        import_save(folder, tmp_path / "no", path=file)
    import_save(folder, tmp_path / "work", path=file, batch_key="donor")
    mean, _ = CELLS.latents(MODEL)
    assert np.abs(latents_of(read_cells(tmp_path / "work")) - mean).max() < 1e-5


def _spoilt(path: Path, change: Any) -> Path:
    adata = anndata.read_h5ad(write_counts(path, MODEL, CELLS, obsm={"X_umap": UMAP}))
    adata = change(adata) or adata
    adata.write_h5ad(path)
    return path


def _strange_batch(adata: Any) -> None:
    adata.obs["sample"] = ["left", "elsewhere"] * 20


def _no_counts(adata: Any) -> None:
    adata.X = np.zeros_like(adata.X.toarray())


def _not_finite(adata: Any) -> None:
    adata.obsm["X_umap"][3, 1] = np.nan


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "genes missing": (lambda a: a[:, :7].copy(), {}, UnfitCells, "7 of the model's 12 genes"),
    "batches unknown": (_strange_batch, {}, UnfitCells, "none of the model's: elsewhere"),
    "no counts": (_no_counts, {}, UnfitCells, "no value above zero"),
    "no such latents": (None, {"latent_key": "X_pca"}, UnfitCells, r"Its obsm has: X_umap"),
    "latents of another width": (None, {"latent_key": "X_umap"}, UnfitCells, "2 columns.*3 latent"),
    "no such umap": (None, {"umap_key": "nowhere"}, UnfitCells, "no array `obsm/nowhere`"),
    "a umap that is not finite": (_not_finite, {"umap_key": "X_umap"}, UnfitCells, "not finite"),
    "no such labels": (None, {"labels_keys": ("kind",)}, UnknownLabelsColumn, "no column 'kind'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_cells_that_do_not_fit(name: str, folder: Path, tmp_path: Path) -> None:
    change, options, kind, reason = REFUSED[name]
    file = _spoilt(tmp_path / "c.h5ad", change or (lambda adata: None))
    with pytest.raises(kind, match=reason):
        import_save(folder, tmp_path / "work", path=file, **options)


@pytest.mark.parametrize("name", ["batch", "latent_0", "umap_1"])
def test_labels_that_would_replace_a_column_of_the_table(
    name: str, folder: Path, tmp_path: Path
) -> None:
    file = renamed(tmp_path, fine=name)
    with pytest.raises(UnfitCells, match=f"cannot be called '{name}'") as caught:
        import_save(folder, tmp_path / "work", path=file, labels_keys=(name,))
    assert "--labels-key" in caught.value.fix


@pytest.mark.parametrize("scanvi", [False, True])
def test_labels_of_the_model_called_like_a_column_of_the_table(
    scanvi: bool, tmp_path: Path
) -> None:
    """They are left out, unless the model cannot be without them."""
    import torch

    model = Model(scanvi=scanvi)
    folder = write(tmp_path / "save", model, "1.4.2")
    saved = torch.load(folder / "model.pt", weights_only=False)
    saved["attr_dict"]["registry_"]["setup_args"]["labels_key"] = "latent_0"
    torch.save(saved, folder / "model.pt")
    file = renamed(tmp_path, cell_type="latent_0")
    if scanvi:
        with pytest.raises(UnfitCells, match="cannot be called 'latent_0'") as caught:
            import_save(folder, tmp_path / "work", path=file)
        assert "--no-cells" in caught.value.fix
        return
    imported = import_save(folder, tmp_path / "work", path=file)
    assert imported.manifest.labels == ()
    mean, _ = CELLS.latents(model)
    assert np.abs(latents_of(read_cells(tmp_path / "work")) - mean).max() < 1e-5


def test_the_cells_file_is_looked_over_before_it_is_followed(folder: Path, tmp_path: Path) -> None:
    from app.problems import UnsupportedFile

    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["umap"] = UMAP
    cells = write_counts(tmp_path / "c.h5ad", MODEL, CELLS)
    with h5py.File(cells, "a") as file:
        file["obsm/X_umap"] = h5py.ExternalLink(str(secret), "umap")
    with pytest.raises(UnsupportedFile, match="another file"):
        import_save(folder, tmp_path / "work", path=cells, umap_key="X_umap")


def test_a_table_of_many_blocks_reads_back_as_one(tmp_path: Path) -> None:
    n = 2 * ROW_GROUP + 17
    rng = np.random.default_rng(0)
    mean, umap = rng.random((n, 2), np.float32), rng.random((n, 2), np.float32)
    columns = CellColumns(
        names=pd.Index([f"c{i}" for i in range(n)]),
        batch=pd.Categorical(["a", "b", "c"][i % 3] for i in range(n)),
        labels={"kind": pd.Categorical(str(i % 7) for i in range(n))},
        umap=umap,
    )
    blocks = (
        LatentBlock(start, min(start + 1024, n), mean[start : start + 1024], None)
        for start in range(0, n, 1024)
    )
    heard: list[float] = []
    write_cells(tmp_path / "cells.parquet", columns, blocks, heard.append)
    table = pd.read_parquet(tmp_path / "cells.parquet")
    assert table.index.equals(columns.names)
    assert table.index.name is None
    assert np.array_equal(latents_of(table), mean)
    assert np.array_equal(table[["umap_0", "umap_1"]], umap)
    assert table["kind"].iloc[-1] == str((n - 1) % 7)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_the_manifest_says_where_it_is_from(folder: Path, tmp_path: Path) -> None:
    manifest = import_save(folder, tmp_path / "work").manifest
    told = json.loads((tmp_path / "work/bundle/manifest.json").read_text())
    assert told["provenance"]["settings"] == {
        "imported_from": "scvi-tools SCVI",
        "scvi_tools_version": "1.4.2",
        "is_trained": True,
    }
    assert manifest.provenance.source_sha256 is not None
    assert manifest.provenance.source_name == "save"


@pytest.mark.parametrize("dispersion", ["protein", "protein-label"])
def test_a_network_that_looks_at_labels_keeps_its_own_order_of_them(dispersion: str) -> None:
    architecture = Architecture.model_validate(
        {"n_genes": 1, "n_proteins": 1, "protein_dispersion": dispersion}
    )
    own = LabelLevel(key="cell_type", categories=("T", "B"))
    model = SimpleNamespace(
        kind="totalvi", architecture=architecture, save=SimpleNamespace(labels=own)
    )
    order = SimpleNamespace(options=ImportOptions("m"))
    obs = pd.DataFrame({"cell_type": ["B", "T"]})
    reading: Any = _Reading(order, model, None, None, {"obs_columns": ["cell_type"]}, obs)  # type: ignore[arg-type]
    (level,) = reading._labels()
    assert level.categories == (("T", "B") if dispersion == "protein-label" else ("B", "T"))
