"""The cells of a reference where their counts are at hand, as a search for a recipe reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from models_store.cells import Cells
from models_store.manifest import Manifest
from models_store.protein_panels import with_measured
from models_store.sparse_counts import sparse_counts
from worker.alignment import AlignedCounts, Index
from worker.covariates import QueryDesign, design_query
from worker.labels import label_names
from worker.obs import MISSING, category_names

Names = npt.NDArray[np.str_]

NO_NAME = ""
"""Of a cell without a label or a condition."""


@dataclass(frozen=True)
class KnownCells:
    """Counts in the reference's genes, and what is known of each cell."""

    counts: AlignedCounts
    obs: pd.DataFrame
    batch_key: str
    batch: Names
    labels: Names
    """At the first label level; `NO_NAME` for a cell without one, and where there is no level."""
    condition: Names

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        counts: AlignedCounts,
        obs: pd.DataFrame,
        *,
        batch_key: str,
        condition_key: str | None,
    ) -> KnownCells:
        """Read the columns of obs; its batches bear the names that the reference has for them."""
        level = manifest.labels[0].key if manifest.labels else None
        return cls(
            counts,
            obs,
            batch_key,
            category_names(obs[batch_key]).to_numpy(dtype=np.str_),
            _names(obs, level, manifest.unlabeled_category),
            _names(obs, condition_key, None),
        )

    def __len__(self) -> int:
        return len(self.batch)

    def design(self, manifest: Manifest, cells: Index, *, as_query: bool) -> QueryDesign:
        """Codes of these cells under a manifest: as its own cells, or as a query has them.

        A query's labels are not shown to the network.
        """
        level = manifest.labels[0].key if manifest.labels else None
        return design_query(
            self.obs.iloc[cells],
            manifest,
            batch_key=[self.batch_key],
            labels_key=None if as_query else level,
            reuse_batches=not as_query,
        )

    def training_cells(self, manifest: Manifest, cells: Index, device: str) -> Cells:
        """Cells that a network of this manifest can learn from, on the device."""
        design = self.design(manifest, cells, as_query=False)

        def there(values: npt.NDArray[np.generic] | None) -> torch.Tensor | None:
            return None if values is None else torch.from_numpy(values).to(device)

        chosen = Cells(
            sparse_counts(self.counts.in_order(cells)).to(device),
            tuple(torch.from_numpy(code).to(device) for code in design.codes),
            there(design.continuous),
            there(design.labels),
            there(design.size_factor),
        )
        return with_measured(chosen, manifest.architecture.n_proteins)


def _names(obs: pd.DataFrame, key: str | None, unlabeled: str | None) -> Names:
    if key is None:
        return np.full(len(obs), NO_NAME, dtype=np.str_)
    names = label_names(obs[key], unlabeled)
    return names.where(names != MISSING, None).fillna(NO_NAME).to_numpy(dtype=np.str_)
