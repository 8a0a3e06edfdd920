"""Small networks and cells of genes and proteins at random, for the tests of this folder."""

from __future__ import annotations

import dataclasses

import torch

from models_store.cells import Cells
from models_store.layers import ConditionalLinear
from models_store.manifest import Architecture
from models_store.protein_panels import with_measured
from models_store.totalvi import TOTALVI

N_GENES, N_PROTEINS, N_LABELS = 9, 4, 3
TOTAL_ARCHITECTURES: dict[str, dict[str, object]] = {
    "recommended": {},
    "batch norm, zinb, two decoder layers": {
        "likelihood": "zinb",
        "batch_norm": "both",
        "layer_norm": "none",
        "n_layers_decoder": 2,
    },
    "latent library, by batch": {
        "library": "latent",
        "dispersion": "gene-batch",
        "protein_dispersion": "protein-batch",
    },
    "size factor, exp, by label": {
        "library": "size_factor",
        "background": "exp",
        "dispersion": "gene-label",
        "protein_dispersion": "protein-label",
    },
    "panels, counts alone encoded": {"n_panels": 2, "encode_covariates": False},
    "before 1.3.1, zinb, ln": {
        "protein_efficiency": False,
        "background": "exp",
        "likelihood": "zinb",
        "latent_distribution": "ln",
    },
}


def total_reference(*, seed: int = 0, **options: object) -> TOTALVI:
    """An untrained reference in eval mode that uses all of its weights."""
    torch.manual_seed(seed)
    sizes = {
        "n_genes": N_GENES,
        "n_proteins": N_PROTEINS,
        "n_hidden": 8,
        "n_latent": 3,
        "n_layers_decoder": 1,
    }
    network = TOTALVI(
        Architecture.model_validate(sizes | options),
        n_categories=(3, 2),
        n_continuous=1,
        n_labels=N_LABELS,
    )
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    with torch.no_grad():
        for table in (network.proteins.background_mean, network.proteins.background_log_sd):
            table.reference.add_(0.3 * torch.randn_like(table.reference))
        network.proteins.log_efficiency.normal_(0, 0.3)
        scale = network.decoder.foreground.output("scale")
        assert isinstance(scale, ConditionalLinear)
        scale.b.add_(1.0)
    return network.eval()


def total_cells(n: int = 12, *, n_categories: tuple[int, ...] = (3, 2), seed: int = 1) -> Cells:
    """Counts and all covariates that `total_reference` may ask for; batch 1 lacks two proteins."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.poisson(torch.full((n, N_GENES + N_PROTEINS), 3.0), generator=generator)
    x[:, 0] += 1
    codes = tuple(torch.randint(k, (n,), generator=generator) for k in n_categories)
    x[codes[0] == 1, -2:] = 0
    them = Cells(
        x=x,
        codes=codes,
        continuous=torch.randn(n, 1, generator=generator),
        labels=torch.randint(N_LABELS + 1, (n,), generator=generator),
        size_factor=torch.rand(n, generator=generator) + 0.5,
    )
    return with_measured(them, N_PROTEINS)


def in_double(them: Cells) -> Cells:
    """The same cells in float64."""
    doubled = {
        name: value.double()
        for name, value in vars(them).items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    return dataclasses.replace(them, **doubled)
