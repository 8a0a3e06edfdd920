"""Reference options under which the engine's promises are tested: each wall of the house once."""

from __future__ import annotations

from typing import Any

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "batch norm, zinb": {
        "architecture": {"likelihood": "zinb", "batch_norm": "both", "layer_norm": "none"}
    },
    "latent library, covariates in the first layer only": {
        "architecture": {"library": "latent", "deeply_inject_covariates": False}
    },
    "gene-batch dispersion, three layers": {
        "architecture": {"dispersion": "gene-batch", "n_layers": 3}
    },
    "extra and continuous covariates, size factor": {
        "architecture": {"library": "size_factor", "likelihood": "poisson"},
        "extra_categorical": ["plate"],
        "continuous": ["age"],
        "size_factor_key": "size",
    },
    "gene-cell dispersion, expression alone encoded": {
        "architecture": {"dispersion": "gene-cell", "encode_covariates": False, "n_layers": 1}
    },
    "gene-label dispersion, logistic-normal latent": {
        "architecture": {"dispersion": "gene-label", "latent_distribution": "ln"}
    },
    "SCANVI": {"kind": "SCANVI"},
    "SCANVI with unlabelled cells, batch norm, linear classifier, latent library": {
        "kind": "SCANVI",
        "unlabeled_category": "gamma",
        "architecture": {
            "batch_norm": "both",
            "layer_norm": "none",
            "library": "latent",
            "linear_classifier": True,
        },
    },
    "SCANVI, gene-batch dispersion, extra covariate": {
        "kind": "SCANVI",
        "architecture": {"dispersion": "gene-batch", "deeply_inject_covariates": False},
        "extra_categorical": ["plate"],
        "pretraining": True,
    },
    "PEAKVI": {"kind": "PEAKVI"},
    "PEAKVI, no depth, batch norm, extra and continuous covariates": {
        "kind": "PEAKVI",
        "architecture": {"model_depth": False, "batch_norm": "both", "n_layers_decoder": 1},
        "extra_categorical": ["plate"],
        "continuous": ["age"],
    },
    "POISSONVI": {"kind": "POISSONVI"},
    "one batch, normal": {
        "architecture": {"likelihood": "normal", "log_variational": False},
        "batch_key": None,
    },
}
