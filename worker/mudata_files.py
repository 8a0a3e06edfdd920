"""Several modalities of the same cells as an h5mu file, which mudata and scvi-tools read.

Written as mudata 0.3 writes it, element by element, so that the worker needs no further package.
"""

from collections.abc import Mapping
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd

ENCODING = {"encoding-type": "MuData", "encoding-version": "0.1.0"}


def write_h5mu(path: Path, obs: pd.DataFrame, modalities: Mapping[str, anndata.AnnData]) -> None:
    """Write modalities that have the same cells in the same order.

    Args:
        path: the file.
        obs: what is said of the cells; the modalities say nothing themselves.
        modalities: by name, each with its counts and var.
    """
    with h5py.File(path, "w") as file, anndata.settings.override(allow_write_nullable_strings=True):
        file.attrs.update({**ENCODING, "axis": 0, "encoder": "cellgraft", "encoder-version": "1"})
        held = file.create_group("mod")
        held.attrs["mod-order"] = list(modalities)
        for name, cells in modalities.items():
            anndata.io.write_elem(held, name, cells)
        var = pd.DataFrame(
            index=pd.Index(np.concatenate([c.var_names for c in modalities.values()]))
        )
        anndata.io.write_elem(file, "obs", obs)
        anndata.io.write_elem(file, "var", var)
        for empty in ("obsm", "varm", "obsp", "varp", "uns"):
            anndata.io.write_elem(file, empty, {})
        places = _places(modalities)
        n_cells = len(obs)
        everyone = {name: np.arange(1, n_cells + 1) for name in modalities}
        anndata.io.write_elem(file, "obsmap", everyone)
        anndata.io.write_elem(file, "varmap", places)


def _places(modalities: Mapping[str, anndata.AnnData]) -> dict[str, np.ndarray]:
    """For each modality, where in the joint var its features are, counted from 1; 0: nowhere."""
    total, start = sum(cells.n_vars for cells in modalities.values()), 0
    found = {}
    for name, cells in modalities.items():
        found[name] = np.zeros(total, dtype=np.int64)
        found[name][start : start + cells.n_vars] = np.arange(1, cells.n_vars + 1)
        start += cells.n_vars
    return found
