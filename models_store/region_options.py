"""The options of a saved model of regions as an architecture: PEAKVI and POISSONVI."""

import math
from collections.abc import Mapping
from typing import Any

from models_store.manifest import Architecture
from models_store.scvi_options import WITHOUT_EFFECT, built, library_of, refuse_unknown
from models_store.scvi_saves import Save

PEAK_DEFAULTS: Mapping[str, Any] = {
    "n_hidden": None,
    "n_latent": None,
    "n_layers_encoder": 2,
    "n_layers_decoder": 2,
    "dropout_rate": 0.1,
    "model_depth": True,
    "region_factors": True,
    "use_batch_norm": "none",
    "use_layer_norm": "both",
    "latent_distribution": "normal",
    "deeply_inject_covariates": False,
    "encode_covariates": False,
}
"""Of PEAKVI, where a save does not say otherwise."""
POISSON_DEFAULTS: Mapping[str, Any] = {
    "n_hidden": None,
    "n_latent": None,
    "n_layers": 2,
    "dropout_rate": 0.1,
    "latent_distribution": "normal",
    "use_observed_lib_size": True,
    "log_variational": True,
    "deeply_inject_covariates": True,
    "encode_covariates": False,
}


def region_architecture_of(save: Save) -> Architecture:
    """The architecture that the options of a save describe.

    Raises:
        UnsupportedSave: an option that no network here has.
        InconsistentSave: an option that is out of its range.
    """
    defaults = PEAK_DEFAULTS if save.model == "PEAKVI" else POISSON_DEFAULTS
    refuse_unknown(save, defaults, WITHOUT_EFFECT)
    given = {k: v for k, v in save.options.items() if k in defaults and v is not None}
    chosen = {**defaults, **given, **_sizes(len(save.genes), given)}
    own = _peak if save.model == "PEAKVI" else _poisson
    return built(
        n_genes=0,
        n_regions=len(save.genes),
        n_hidden=chosen["n_hidden"],
        n_latent=chosen["n_latent"],
        dropout_rate=chosen["dropout_rate"],
        latent_distribution=chosen["latent_distribution"],
        encode_covariates=chosen["encode_covariates"],
        deeply_inject_covariates=chosen["deeply_inject_covariates"],
        **own(save, chosen),
    )


def _sizes(n_regions: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The root of the number of regions, and the root of that, where nothing else is said."""
    n_hidden = given.get("n_hidden", math.isqrt(n_regions))
    roots = isinstance(n_hidden, int) and n_hidden > 0
    n_latent = given.get("n_latent", math.isqrt(n_hidden) if roots else None)
    return {"n_hidden": n_hidden, "n_latent": n_latent}


def _peak(save: Save, chosen: Mapping[str, Any]) -> dict[str, Any]:
    n_layers, n_decoder = chosen["n_layers_encoder"], chosen["n_layers_decoder"]
    return {
        "n_layers": n_layers,
        "n_layers_decoder": None if n_decoder == n_layers else n_decoder,
        "model_depth": chosen["model_depth"],
        "region_factors": chosen["region_factors"],
        "batch_norm": chosen["use_batch_norm"],
        "layer_norm": chosen["use_layer_norm"],
        "log_variational": False,
    }


def _poisson(save: Save, chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n_layers": chosen["n_layers"],
        "likelihood": "poisson",
        "library": library_of(save, observed=chosen["use_observed_lib_size"]),
        "log_variational": chosen["log_variational"],
    }
