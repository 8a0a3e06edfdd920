"""The options of a saved model of regions as an architecture: PEAKVI and POISSONVI."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

from models_store.manifest import Architecture
from models_store.scvi_options import WITHOUT_EFFECT, built, chosen_options, library_of, root_of
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
    chosen = chosen_options(save, defaults, WITHOUT_EFFECT)
    given = {k: v for k, v in chosen.items() if v is not None}
    chosen = {**defaults, **given, **_sizes(len(save.genes), given)}
    own = _peak if save.model == "PEAKVI" else _poisson
    return built(chosen, n_genes=0, n_regions=len(save.genes), **own(save, chosen))


def _sizes(n_regions: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The root of the number of regions, and the root of that, where nothing else is said."""
    n_hidden = given.get("n_hidden", isqrt(n_regions))
    return {"n_hidden": n_hidden, "n_latent": given.get("n_latent", root_of(n_hidden))}


def _peak(save: Save, chosen: Mapping[str, Any]) -> dict[str, Any]:
    n_decoder = chosen["n_layers_decoder"]
    same = n_decoder == chosen["n_layers_encoder"]
    return {"n_layers_decoder": None if same else n_decoder, "log_variational": False}


def _poisson(save: Save, chosen: Mapping[str, Any]) -> dict[str, Any]:
    library = library_of(save, observed=chosen["use_observed_lib_size"])
    return {"likelihood": "poisson", "library": library}
