"""What Cellgraft does otherwise than scvi-tools on purpose, put into scvi-tools' query network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from models_store.cvae import CVAE
from models_store.layers import ConditionalLinear

from .convert import columns

Layers = Iterable[tuple[str, str, ConditionalLinear]]
"""Our path, scvi-tools' path and the layer, for each layer that may see covariates."""


def load_new(grafted: CVAE, state: dict[str, Tensor]) -> None:
    """Copy the new rows and library priors, and nothing of the reference."""
    with torch.no_grad():
        for name, parameter in grafted.named_parameters():
            if name.endswith(".query"):
                parameter.copy_(state[name])
        grafted.library_prior.copy_(state["library_prior"])


@torch.no_grad()
def depart(module: Any, layers: Layers) -> None:
    """Extra covariates stand in their own block; a lone reference category contributes zero."""
    state = module.state_dict()
    for _, theirs, linear in layers:
        weight = state[f"{theirs}.weight"]
        if list(linear.covariate_rows()):
            weight.copy_(align(weight, linear))
        for table, reference, _ in columns(linear):
            if table.reference.shape[0] == 1:
                weight[:, reference] = 0


def align(weight: Tensor, linear: ConditionalLinear) -> Tensor:
    """[x | reference columns of all | new columns of all] -> [x | covariate by covariate]."""
    widths = []
    for _, reference, query in columns(linear):
        total = query.stop - reference.start
        # scvi-tools gives a lone category no column until a second one joins it.
        old = reference.stop - reference.start
        old = old if old > 1 else 0
        widths += [(old, total - old)]
    n_in = linear.W_x.shape[0]
    x, old, new = weight.split([n_in, *(sum(w) for w in zip(*widths, strict=True))], dim=1)
    olds = old.split([w for w, _ in widths], dim=1)
    news = new.split([w for _, w in widths], dim=1)
    return torch.cat(
        [x, *(block for pair in zip(olds, news, strict=True) for block in pair)], dim=1
    )


def new_columns(module: Any, layers: Layers) -> dict[str, Tensor]:
    """For each of scvi-tools' parameters, 1 in the columns of new categories and 0 elsewhere."""
    masks = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    for _, theirs, linear in layers:
        for _, _, query in columns(linear):
            masks[f"{theirs}.weight"][:, query] = 1
    return masks


@contextmanager
def drawn(draws: list[Tensor]) -> Iterator[None]:
    """scvi-tools' reparameterised draws are these, in this order."""

    def draw(shape: torch.Size, **_: Any) -> Tensor:
        assert draws[0].shape == shape, "scvi-tools draws something that we did not expect"
        return draws.pop(0)

    with mock.patch("torch.distributions.normal._standard_normal", draw):
        yield
    assert not draws, "scvi-tools drew less than we expected"
