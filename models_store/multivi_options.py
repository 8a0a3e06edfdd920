"""The options of a saved MULTIVI as an architecture: defaults, and what no network here has."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

from models_store.manifest import Architecture
from models_store.scvi_options import built, chosen_options, root_of
from models_store.scvi_saves import Save, UnsupportedSave

DEFAULTS: Mapping[str, Any] = {
    "n_hidden": None,
    "n_latent": None,
    "n_layers_encoder": 2,
    "n_layers_decoder": 2,
    "dropout_rate": 0.1,
    "region_factors": True,
    "gene_likelihood": "zinb",
    "dispersion": "gene",
    "protein_dispersion": "protein",
    "use_batch_norm": "none",
    "use_layer_norm": "both",
    "latent_distribution": "normal",
    "deeply_inject_covariates": False,
    "encode_covariates": False,
    "modality_weights": "equal",
    "modality_penalty": "Jeffreys",
}
"""Of MULTIVI since 0.14, where a save does not say otherwise; sizes: see `older_saves`."""

WITHOUT_EFFECT = frozenset(
    {
        "empirical_protein_background_prior",
        "extra_payload_autotune",
        "fully_paired",
        "n_genes",
        "n_obs",
        "n_proteins",
        "n_regions",
        "registry",
        "use_cuda",
        "use_gpu",
        "use_size_factor_key",
    }
)
"""Options that change no weight's place, or that the weights and the registry tell better."""
MOST_HIDDEN = 128


def multi_architecture_of(save: Save) -> Architecture:
    """The architecture that the options of a save of MULTIVI describe.

    Raises:
        UnsupportedSave: an option that no network here has.
        InconsistentSave: an option that is out of its range.
    """
    chosen = chosen_options(save, DEFAULTS, WITHOUT_EFFECT)
    _refuse_combinations(save, chosen)
    n_features = len(save.regions) or len(save.genes)
    n_hidden = chosen["n_hidden"] or min(MOST_HIDDEN, isqrt(n_features))
    sizes = {"n_hidden": n_hidden, "n_latent": chosen["n_latent"] or root_of(n_hidden)}
    return built(
        chosen | sizes,
        n_genes=len(save.genes),
        n_regions=len(save.regions),
        n_proteins=len(save.proteins),
        log_variational=False,
        library="observed" if save.size_factor_key is None else "size_factor",
        depth_factor=save.depth_key is not None,
    )


def _refuse_combinations(save: Save, chosen: Mapping[str, Any]) -> None:
    if chosen["modality_weights"] == "cell":
        raise UnsupportedSave(
            "it was made with modality_weights='cell', which weighs each cell that it was trained "
            "on by itself: cells of a query have no such weight"
        )
    if save.genes and chosen["dispersion"] != "gene":
        raise UnsupportedSave(
            f"it was made with dispersion={chosen['dispersion']!r}, by which scvi-tools itself "
            "cannot train a MULTIVI"
        )
    if chosen["protein_dispersion"] == "protein-label":
        raise UnsupportedSave(
            "it was made with protein_dispersion='protein-label', by which scvi-tools itself "
            "cannot train a MULTIVI"
        )
