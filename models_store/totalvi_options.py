"""The options of a saved TOTALVI as an architecture, with the maths of its version."""

from collections.abc import Mapping
from typing import Any

from models_store.manifest import Architecture
from models_store.scvi_options import built, chosen_options, library_of
from models_store.scvi_saves import Save, UnsupportedSave

DEFAULTS: Mapping[str, Any] = {
    "n_hidden": 256,
    "n_latent": 20,
    "n_layers_encoder": 2,
    "n_layers_decoder": 1,
    "dropout_rate_encoder": 0.2,
    "dropout_rate_decoder": 0.2,
    "gene_dispersion": "gene",
    "protein_dispersion": "protein",
    "gene_likelihood": "nb",
    "latent_distribution": "normal",
    "use_observed_lib_size": True,
    "log_variational": True,
    "encode_covariates": True,
    "use_batch_norm": "both",
    "use_layer_norm": "none",
    "extra_decoder_kwargs": None,
}
"""Of TOTALVI since 0.8, where a save does not say otherwise: they never changed."""

WITHOUT_EFFECT = frozenset(
    {
        "empirical_protein_background_prior",
        "extra_payload_autotune",
        "override_missing_proteins",
        "registry",
        "use_cuda",
        "use_gpu",
        "use_size_factor_key",
    }
)
"""Options that change no weight's place, or that the weights and the registry tell better."""

SOFTPLUS_SINCE = (1, 2)
"""Before this version the sd of a background was the exponential of its raw output."""


def total_architecture_of(save: Save) -> Architecture:
    """The architecture that the options of a save of TOTALVI describe.

    Raises:
        UnsupportedSave: an option that no network here has.
        InconsistentSave: an option that is out of its range.
    """
    chosen = chosen_options(save, DEFAULTS, WITHOUT_EFFECT)
    by_label = [chosen[by] for by in ("gene_dispersion", "protein_dispersion")]
    if save.labels is None and any(str(by).endswith("-label") for by in by_label):
        raise UnsupportedSave(
            "it was made with a dispersion by label and trained without labels, which is not "
            "supported"
        )
    if chosen["gene_dispersion"] == "gene-cell":
        raise UnsupportedSave(
            "it was made with gene_dispersion='gene-cell', which is not supported"
        )
    return built(
        chosen,
        n_genes=len(save.genes),
        n_proteins=len(save.proteins),
        library=library_of(save, observed=chosen["use_observed_lib_size"]),
        background=_background(save, chosen["extra_decoder_kwargs"] or {}),
        n_panels=save.n_panels,
    )


def _background(save: Save, said: Mapping[str, Any]) -> Any:
    others = sorted(set(said) - {"activation_function_bg"})
    if others:
        raise UnsupportedSave(f"its extra_decoder_kwargs have {others[0]}, which is not supported")
    by_version = "softplus" if save.version >= SOFTPLUS_SINCE else "exp"
    return said.get("activation_function_bg") or by_version
