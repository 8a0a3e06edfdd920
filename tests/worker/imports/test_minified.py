"""Minified data of older scvi-tools: their latents, and the ones that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.problems import UnfitCells

from .files import import_save, latents_of, read_cells, write_minified
from .saves import Model, some_cells, write

MODEL = Model()
CELLS = some_cells(MODEL)


def _minified_save(folder: Path, key: Any) -> Path:
    """As 0.18 to 1.1 left it: the registry says which array is the model's own."""
    write(folder, MODEL, "1.0.4")
    held = torch.load(folder / "model.pt", weights_only=False)
    fields = held["attr_dict"]["registry_"]["field_registries"]
    own = {"attr_name": "obsm", "attr_key": key}
    fields["latent_qzm"] = {"data_registry": own, "state_registry": {}, "summary_stats": {}}
    torch.save(held, folder / "model.pt")
    return folder


def test_the_models_own_among_several_latents(tmp_path: Path) -> None:
    """scvi-tools kept the array that it was given, and a copy under a name of its own."""
    folder = _minified_save(tmp_path / "save", "_scvi_latent_qzm")
    another = {"X_latent_qzm": np.zeros((40, 3)), "X_latent_qzv": np.ones((40, 3))}
    write_minified(folder / "adata.h5ad", MODEL, CELLS, key="_scvi_latent", **another)
    import_save(folder, tmp_path / "work")
    mean, variance = CELLS.latents(MODEL)
    table = read_cells(tmp_path / "work")
    assert np.array_equal(latents_of(table), mean.astype(np.float32))
    assert np.array_equal(latents_of(table, "variance"), variance.astype(np.float32))


@pytest.mark.parametrize("key", ["gone_latent_qzm", "X_umap", None, 7])
def test_several_latents_none_of_which_is_named(key: Any, tmp_path: Path) -> None:
    folder = _minified_save(tmp_path / "save", key)
    another = {"X_latent_qzm": np.zeros((40, 3)), "X_umap": np.zeros((40, 3))}
    write_minified(folder / "adata.h5ad", MODEL, CELLS, key="_scvi_latent", **another)
    with pytest.raises(UnfitCells, match="Its obsm has: X_latent_qzm"):
        import_save(folder, tmp_path / "work")
