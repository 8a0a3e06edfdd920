"""The options of a saved model as an architecture: defaults, and what no network here has."""

from collections.abc import Container, Mapping
from math import isqrt
from typing import Any, Literal

from pydantic import ValidationError

from models_store.manifest import Architecture
from models_store.scvi_saves import InconsistentSave, Save, UnsupportedSave

DEFAULTS: Mapping[str, Any] = {
    "n_hidden": 128,
    "n_latent": 10,
    "n_layers": 1,
    "dropout_rate": 0.1,
    "dispersion": "gene",
    "gene_likelihood": "zinb",
    "latent_distribution": "normal",
    "use_observed_lib_size": True,
    "log_variational": True,
    "encode_covariates": False,
    "deeply_inject_covariates": True,
    "use_batch_norm": "both",
    "use_layer_norm": "none",
    "linear_classifier": False,
}
"""Of SCVI and SCANVI since 0.8, where a save does not say otherwise: they never changed."""

WITHOUT_EFFECT = frozenset(
    {
        "accelerator",
        "datamodule",
        "extra_payload_autotune",
        "labels_groups",
        "pretrained_model",
        "registry",
        "unlabeled_category",
        "use_cuda",
        "use_gpu",
        "use_size_factor_key",
        "y_prior",
    }
)
"""Options that change no weight's place, or that the weights and the registry tell better."""

UNSUPPORTED: Mapping[str, Any] = {
    "batch_representation": "one-hot",
    "use_labels_groups": False,
}
"""Options that are supported at one value alone."""

OURS: Mapping[str, str] = {
    "dropout_rate_decoder": "decoder_dropout_rate",
    "dropout_rate_encoder": "dropout_rate",
    "gene_dispersion": "dispersion",
    "gene_likelihood": "likelihood",
    "n_layers_encoder": "n_layers",
    "use_batch_norm": "batch_norm",
    "use_layer_norm": "layer_norm",
}
"""Options of all kinds of models that are called otherwise here."""
TOLD_OTHERWISE = frozenset({"extra_decoder_kwargs", "use_observed_lib_size"})
"""Options that an architecture has in another form."""


def architecture_of(save: Save) -> Architecture:
    """The architecture that the options of a save describe.

    Raises:
        UnsupportedSave: an option that no network here has.
        InconsistentSave: an option that is out of its range.
    """
    chosen = chosen_options(save, DEFAULTS, WITHOUT_EFFECT)
    _refuse_combinations(save, chosen)
    own = {"linear_classifier": save.model == "SCANVI" and chosen["linear_classifier"]}
    return built(
        chosen | own,
        n_genes=len(save.genes),
        library=library_of(save, observed=chosen["use_observed_lib_size"]),
    )


def chosen_options(
    save: Save, defaults: Mapping[str, Any], without_effect: Container[str]
) -> dict[str, Any]:
    """Every option that a kind of model has, as the save says or by default.

    Raises:
        UnsupportedSave: it has one that no network here has.
    """
    refuse_unknown(save, defaults, without_effect)
    return {**defaults, **{k: v for k, v in save.options.items() if k in defaults}}


def library_of(save: Save, *, observed: bool) -> Literal["observed", "latent", "size_factor"]:
    """Where a cell's depth comes from; size factors win."""
    if save.size_factor_key is not None:
        return "size_factor"
    return "observed" if observed else "latent"


def built(chosen: Mapping[str, Any], **options: Any) -> Architecture:
    """The architecture of options as scvi-tools calls them, and of others as we do.

    Raises:
        InconsistentSave: one is out of its range.
    """
    named = {OURS.get(k, k): v for k, v in chosen.items() if k not in TOLD_OTHERWISE}
    try:
        return Architecture.model_validate(named | options)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InconsistentSave(
            f"its option {where} is out of range: {error.errors()[0]['msg']}"
        ) from error


def root_of(size: Any) -> int | None:
    """The latent dimensions that so many hidden units stand for; None of what is no size."""
    return isqrt(size) if isinstance(size, int) and size > 0 else None


def _refuse_combinations(save: Save, chosen: Mapping[str, Any]) -> None:
    """Options that are known, and that no reference here can have together."""
    if chosen["dispersion"] == "gene-label" and save.labels is None:
        raise UnsupportedSave(
            "it was made with dispersion='gene-label' and trained without labels (labels_key), "
            "which is not supported"
        )
    if save.model == "SCANVI" and chosen["latent_distribution"] == "ln":
        raise UnsupportedSave(
            "it is a SCANVI model with latent_distribution='ln', which is not supported: the loss "
            "of its labels needs a normal latent"
        )


def refuse_unknown(save: Save, known: Container[str], without_effect: Container[str]) -> None:
    """Refuse an option that is not known, unless it is at the one value that is supported.

    Raises:
        UnsupportedSave: it is at another.
    """
    for name, value in save.options.items():
        if name in known or name in without_effect or value in (None, {}, []):
            continue
        if name in UNSUPPORTED and value == UNSUPPORTED[name]:
            continue
        shown = value["inert"] if isinstance(value, Mapping) and "inert" in value else value
        raise UnsupportedSave(
            f"it was made with {name}={str(shown)[:80]!r}, which is not supported"
        )
