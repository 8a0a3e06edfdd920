"""Saves of scvi-tools as they are read, of given options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models_store.manifest import Covariate
from models_store.scvi_saves import Save


def save_of(kind: str, options: Mapping[str, Any], *, n_genes: int, **features: Any) -> Save:
    """A trained save of 1.4.2 with two batches; `features` are its regions and proteins."""
    return Save(
        model=kind,
        version=(1, 4, 2),
        version_name="1.4.2",
        options=dict(options),
        genes=tuple(f"g{i}" for i in range(n_genes)),
        batch=Covariate(key="batch", categories=("a", "b")),
        labels=None,
        unlabeled_category=None,
        extra_covariates=(),
        continuous_covariates=(),
        size_factor_key=None,
        layer=None,
        n_cells=9,
        is_trained=True,
        is_legacy=False,
        **features,
    )
