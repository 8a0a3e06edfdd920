"""Every layout in which scvi-tools has saved models, from 0.8 to 1.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.problems import UnreadableSave
from models_store.bundle import load_bundle, verify_bundle

from .files import import_save, latents_of, read_cells, write_counts
from .saves import BATCHES, GENES, LABELS, Model, some_cells, write

VERSIONS = ("0.8.1", "0.14.6", "0.15.5", "0.16.1", "0.17.4", "0.20.3", "1.0.4", "1.1.2", "1.2.2")
VERSIONS += ("1.3.3", "1.4.2", "1.5.0")

MODELS = {
    "recommended": Model(),
    "scvi-tools' defaults": Model(
        encode_covariates=False, batch_norm=True, layer_norm=False, n_layers=1
    ),
    "one batch": Model(batches=("only",)),
    "batches that are numbers": Model(batches=(0, 1, 2)),
    "SCANVI": Model(scanvi=True),
}


CASES = [("recommended", version) for version in VERSIONS]
CASES += [("SCANVI", version) for version in ("0.8.1", "0.16.1", "1.0.4", "1.3.3")]
CASES += [(name, "1.1.2") for name in MODELS if name not in {"recommended", "SCANVI"}]


@pytest.mark.parametrize(("name", "version"), CASES)
def test_latents_are_what_the_save_computes(name: str, version: str, tmp_path: Path) -> None:
    model = MODELS[name]
    folder = write(tmp_path / "save", model, version)
    cells = some_cells(model)
    file = write_counts(tmp_path / "cells.h5ad", model, cells, genes=GENES[::-1])
    imported = import_save(folder, tmp_path / "work", path=file)
    manifest = imported.manifest
    assert manifest.version == 3
    assert manifest.genes.ids == GENES
    assert manifest.batch.categories == tuple(map(str, model.batches))
    assert manifest.kind == ("scanvi" if model.scanvi else "scvi")
    assert manifest.labels[0].categories == (LABELS[:2] if model.scanvi else LABELS)
    assert manifest.unlabeled_category == ("unknown" if model.scanvi else None)
    assert manifest.surgery_has_effect is model.encode_covariates
    assert manifest.self_test is not None
    assert manifest.self_test.reference_reproduced
    table = read_cells(tmp_path / "work")
    mean, variance = cells.latents(model)
    assert np.abs(latents_of(table) - mean).max() < 1e-5 * np.abs(mean).max()
    assert np.abs(latents_of(table, "variance") - variance).max() < 1e-5 * variance.max()
    assert list(table.index) == [f"cell{i}" for i in range(40)]
    assert list(table["batch"]) == [str(model.batches[code]) for code in cells.batch]
    verify_bundle(tmp_path / "work/bundle")


@pytest.mark.parametrize("version", ["0.9.0", "0.15.5", "1.4.2"])
def test_covariates_have_blocks_of_their_own(version: str, tmp_path: Path) -> None:
    model = Model(plates=("p0", "p1", "p2"), n_continuous=0 if version == "0.9.0" else 2)
    folder = write(tmp_path / "save", model, version)
    cells = some_cells(model)
    file = write_counts(tmp_path / "cells.h5ad", model, cells)
    imported = import_save(folder, tmp_path / "work", path=file)
    (plate,) = imported.manifest.extra_covariates
    assert (plate.key, plate.categories) == ("plate", ("p0", "p1", "p2"))
    assert len(imported.manifest.continuous_covariates) == model.n_continuous
    mean, _ = cells.latents(model)
    assert np.abs(latents_of(read_cells(tmp_path / "work")) - mean).max() < 1e-5


def test_extra_covariates_of_before_0_9_were_not_looked_at(tmp_path: Path) -> None:
    """They could be registered, and no layer had columns for them."""
    model = Model()
    model.plates, state = ("p0", "p1"), model.state
    folder = write(tmp_path / "save", model, "0.8.1")
    assert state["z_encoder.encoder.fc_layers.Layer 0.0.weight"].shape[1] == len(GENES) + 2
    imported = import_save(folder, tmp_path / "work")
    assert imported.manifest.extra_covariates == ()


def test_a_lone_batch_has_a_row_of_zeros(tmp_path: Path) -> None:
    folder = write(tmp_path / "save", MODELS["one batch"], "1.4.2")
    import_save(folder, tmp_path / "work")
    _, network = load_bundle(tmp_path / "work/bundle")
    rows = [table.reference for table in network.category_rows().values()]
    assert rows
    assert all(tuple(row.shape) == (1, 8) and not row.any() for row in rows)


def test_prefixes_tell_saves_of_one_folder_apart(tmp_path: Path) -> None:
    one, other = Model(batches=BATCHES), Model(batches=("a", "b", "c"))
    folder = write(tmp_path / "saves", one, "1.3.0", prefix="one_")
    write(folder, other, "0.8.1", prefix="other_")
    with pytest.raises(UnreadableSave, match=r"2 models.*one_model\.pt"):
        import_save(folder, tmp_path / "both")
    found = {
        prefix: import_save(folder, tmp_path / prefix, prefix=prefix).manifest.batch.categories
        for prefix in ("one_", "other_")
    }
    assert found == {"one_": BATCHES, "other_": ("a", "b", "c")}
    alone = import_save(folder / "one_model.pt", tmp_path / "alone").manifest
    assert alone.batch.categories == BATCHES


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSave, match="no file or folder"):
        import_save(tmp_path / "nowhere", tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("no model")
    with pytest.raises(UnreadableSave, match=r"no model\.pt.*notes\.txt"):
        import_save(tmp_path / "empty", tmp_path / "b")
    folder = write(tmp_path / "save", Model(), "0.8.1")
    (folder / "attr.pkl").unlink()
    with pytest.raises(UnreadableSave, match=r"attr\.pkl is missing"):
        import_save(folder, tmp_path / "c")
