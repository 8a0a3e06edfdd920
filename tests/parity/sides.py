"""What is compared: two networks in both implementations, before surgery and after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models_store.cells import Cells, select_cells


@dataclass(frozen=True)
class Side:
    """One of the two networks that are compared, in both implementations, and its cells."""

    model: Any
    """scvi-tools'."""
    network: Any
    """Ours."""
    tensors: dict[str, Tensor]
    cells: Cells

    @property
    def module(self) -> Any:
        """scvi-tools' network."""
        return self.model.module

    def minibatch(self, index: Tensor) -> tuple[dict[str, Tensor], Cells]:
        """The same cells for both."""
        return {k: v[index] for k, v in self.tensors.items()}, select_cells(self.cells, index)


@dataclass(frozen=True)
class Case:
    """A configuration, ready to be compared: before surgery and after it."""

    configuration: Any
    reference: Any
    query: Any
    """Each a `Side`, or one that says more."""
    trains: dict[str, Tensor]
    """For scvi-tools' parameters, 1 where Cellgraft trains and 0 where section 9 departs."""


def tensors_of(model: Any) -> dict[str, Tensor]:
    """All cells of scvi-tools' model as one minibatch."""
    (tensors,) = model._make_data_loader(adata=model.adata, batch_size=model.adata.n_obs)
    return {name: t for name, t in tensors.items() if isinstance(t, Tensor)}


def codes_of(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Of each covariate. New categories are last there, as here."""
    extra = tensors.get("extra_categorical_covs")
    more = () if extra is None else extra.long().unbind(1)
    return (tensors["batch"].long().squeeze(1), *more)


def latent_of(model: Any) -> np.ndarray:
    """What scvi-tools' `get_latent_representation` gives, through its own data loader."""
    torch.manual_seed(0)
    return np.asarray(model.get_latent_representation())
