"""Which options each kind of reference has when it is built, and its own defaults of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from app.problems import UntrainableReference
from models_store.feature_kinds import FeatureKind
from models_store.manifest import Kind

OF_REGIONS: frozenset[Kind] = frozenset({"peakvi", "poissonvi"})
"""Kinds whose panel is of regions alone."""

MOST_HIDDEN = 128
"""Units of MULTIVI, however many features it has."""

DEFAULTS: Mapping[Kind, Mapping[str, Any]] = {
    "peakvi": {"dropout_rate": 0.1, "log_variational": False},
    "poissonvi": {"dropout_rate": 0.1, "likelihood": "poisson"},
    "multivi": {"dropout_rate": 0.1, "log_variational": False},
    "totalvi": {
        "n_hidden": 256,
        "n_latent": 20,
        "n_layers_decoder": 1,
        "decoder_dropout_rate": 0.2,
    },
}
"""Where they are others than the architecture's: scvi-tools' own."""

_REGION_OPTIONS = frozenset({"model_depth", "region_factors"})
_PROTEIN_OPTIONS = frozenset({"protein_dispersion", "decoder_dropout_rate", "background"})
_OF_SAVES = frozenset({"protein_efficiency", "n_panels"})
_PEAK_OPTIONS = _REGION_OPTIONS | {"n_layers_decoder"}
_LABEL_OPTIONS = frozenset({"linear_classifier"})
_MULTI_OPTIONS = frozenset({"modality_weights", "modality_penalty", "depth_factor"})
_LIKELIHOODS = frozenset({"likelihood", "dispersion"})
NO_OPTIONS: Mapping[Kind, frozenset[str]] = {
    "scvi": _PEAK_OPTIONS | _PROTEIN_OPTIONS | _MULTI_OPTIONS | _OF_SAVES,
    "scanvi": _PEAK_OPTIONS | _PROTEIN_OPTIONS | _MULTI_OPTIONS | _OF_SAVES,
    "peakvi": _LABEL_OPTIONS
    | _LIKELIHOODS
    | _PROTEIN_OPTIONS
    | _MULTI_OPTIONS
    | _OF_SAVES
    | {"library", "log_variational"},
    "poissonvi": _PEAK_OPTIONS
    | _LABEL_OPTIONS
    | _LIKELIHOODS
    | _PROTEIN_OPTIONS
    | _MULTI_OPTIONS
    | _OF_SAVES
    | {"batch_norm", "layer_norm"},
    "totalvi": _REGION_OPTIONS
    | _LABEL_OPTIONS
    | _MULTI_OPTIONS
    | _OF_SAVES
    | {"deeply_inject_covariates"},
    "multivi": _LABEL_OPTIONS
    | _OF_SAVES
    | {"log_variational", "model_depth", "background", "decoder_dropout_rate"},
}
"""Options of an architecture that a kind does not have, as scvi-tools' class of it has not."""


def refuse_foreign(kind: Kind, wanted: Mapping[str, Any]) -> None:
    """Refuse options that the kind does not look at.

    Raises:
        UntrainableReference: one of them is given.
    """
    foreign = sorted(NO_OPTIONS.get(kind, frozenset()) & set(wanted))
    if foreign:
        raise UntrainableReference(
            f"{', '.join(foreign)} {'is' if len(foreign) == 1 else 'are'} no option of kind "
            f"{kind.upper()}.",
            fix="Leave it out, or build another kind.",
            errors=[
                {"pointer": f"/architecture/{name}", "detail": f"no option of {kind.upper()}"}
                for name in foreign
            ],
        )


def sizes_of(
    kind: Kind, counts: Mapping[FeatureKind, int], wanted: Mapping[str, Any]
) -> dict[str, int]:
    """Sizes of a network of regions where none are asked for: as scvi-tools has them.

    The root of the number of regions hidden units, and the root of these latent dimensions.
    """
    if kind not in OF_REGIONS and kind != "multivi":
        return {}
    root = math.isqrt(counts.get("region", 0) or counts.get("gene", 0))
    root = min(root, MOST_HIDDEN) if kind == "multivi" else root
    n_hidden = wanted.get("n_hidden", max(1, root))
    if not isinstance(n_hidden, int) or n_hidden < 1:
        return {}  # which the schema refuses
    return {"n_hidden": n_hidden, "n_latent": max(1, math.isqrt(n_hidden))}
