"""Small networks and cells at random, for the tests of this folder."""

from __future__ import annotations

import torch

from models_store.cells import Cells
from models_store.cvae import CVAE
from models_store.manifest import Architecture
from models_store.peakvi import PEAKVI
from models_store.poissonvi import POISSONVI
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI

N_GENES = 9
ARCHITECTURES = {
    "recommended": {},
    "batch norm, zinb": {"likelihood": "zinb", "batch_norm": "both", "layer_norm": "none"},
    "latent library": {"library": "latent"},
    "size factor, poisson": {"library": "size_factor", "likelihood": "poisson"},
    "gene-batch": {"dispersion": "gene-batch"},
    "gene-label": {"dispersion": "gene-label"},
    "gene-cell": {"dispersion": "gene-cell", "likelihood": "zinb"},
    "normal": {"likelihood": "normal", "log_variational": False},
    "expression alone encoded": {"encode_covariates": False},
    "first layer only": {"deeply_inject_covariates": False, "n_layers": 3},
    "ln": {"latent_distribution": "ln"},
    "SCANVI": {"kind": SCANVI},
    "SCANVI, linear classifier, gene-label": {
        "kind": SCANVI,
        "linear_classifier": True,
        "dispersion": "gene-label",
    },
    "SCANVI, batch norm, latent library": {
        "kind": SCANVI,
        "library": "latent",
        "batch_norm": "both",
        "layer_norm": "none",
        "deeply_inject_covariates": False,
    },
    "SCANVI, one layer, expression alone encoded": {
        "kind": SCANVI,
        "n_layers": 1,
        "encode_covariates": False,
    },
    "PEAKVI": {"kind": PEAKVI},
    "PEAKVI, expression alone encoded": {
        "kind": PEAKVI,
        "encode_covariates": False,
        "deeply_inject_covariates": False,
        "n_layers_decoder": 1,
    },
    "PEAKVI, no depth, no factors, batch norm, ln": {
        "kind": PEAKVI,
        "model_depth": False,
        "region_factors": False,
        "batch_norm": "both",
        "latent_distribution": "ln",
    },
    "POISSONVI": {"kind": POISSONVI, "likelihood": "poisson"},
}
"""Options of an architecture; `kind` is the network's class, SCVI unless said."""
N_LABELS = 4


def architecture(**options: object) -> Architecture:
    sizes = {"n_hidden": 8, "n_latent": 3}
    if options.pop("kind", None) in {PEAKVI, POISSONVI}:
        sizes |= {"n_genes": 0, "n_regions": N_GENES}
    else:
        sizes |= {"n_genes": N_GENES}
    return Architecture.model_validate(sizes | options)


def reference(
    *,
    n_categories: tuple[int, ...] = (3, 2),
    n_continuous: int = 1,
    seed: int = 0,
    kind: type[CVAE] = SCVI,
    **options: object,
) -> CVAE:
    """An untrained reference in eval mode, with running statistics unlike those of a new one."""
    torch.manual_seed(seed)
    network = kind(
        architecture(kind=kind, **options),
        n_categories=n_categories,
        n_continuous=n_continuous,
        n_labels=N_LABELS,
    )
    if isinstance(network, PEAKVI) and network.region_factors is not None:
        torch.nn.init.normal_(network.region_factors)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return network.eval()


def cells(n: int = 12, *, n_categories: tuple[int, ...] = (3, 2), seed: int = 1) -> Cells:
    """Counts and all covariates that `reference` may ask for."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.poisson(torch.full((n, N_GENES), 3.0), generator=generator)
    x[:, 0] += 1
    return Cells(
        x=x,
        codes=tuple(torch.randint(k, (n,), generator=generator) for k in n_categories),
        continuous=torch.randn(n, 1, generator=generator),
        labels=torch.randint(N_LABELS + 1, (n,), generator=generator),
        size_factor=torch.rand(n, generator=generator) + 0.5,
    )
