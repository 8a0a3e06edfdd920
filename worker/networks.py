"""The network that a build asks for, checked before anything is computed."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.problems import InputKindMismatch, UntrainableReference
from models_store.feature_kinds import FeatureKind
from models_store.manifest import Architecture, Kind
from worker.kind_options import DEFAULTS, OF_REGIONS, refuse_foreign, sizes_of

FIX = "Leave the option out, or choose a value as the manifest of a reference lists them."
KINDS: tuple[Kind, ...] = ("scvi", "scanvi", "peakvi", "poissonvi", "totalvi", "multivi")
"""Kinds that can be built."""
COUNTED = frozenset({"n_genes", "n_regions", "n_proteins"})


def kind_of(options: dict[str, Any]) -> Kind:
    """The kind that a build's options ask for, SCVI unless said.

    Raises:
        UntrainableReference: it is unknown, or needs what the options lack.
    """
    wanted = str(options.get("kind") or "scvi").lower()
    kind = next((each for each in KINDS if each == wanted), None)
    if kind is None:
        raise UntrainableReference(
            f"{options['kind']!r} is no kind of reference.",
            fix=f"Choose one of {', '.join(each.upper() for each in KINDS)}.",
        )
    if kind == "scanvi" and not options.get("labels_keys"):
        raise UntrainableReference(
            "Kind SCANVI learns labels, and no column of labels is named.",
            fix="Name one with `labels_keys`, or build kind SCVI.",
        )
    for option in ("unlabeled_category", "pretraining"):
        if kind != "scanvi" and options.get(option):
            raise UntrainableReference(
                f"`{option}` is an option of kind SCANVI; {kind.upper()} learns no labels.",
                fix=f"Leave `{option}` out, or build kind SCANVI.",
            )
    return kind


def draft_architecture(options: dict[str, Any], kind: str) -> Architecture:
    """The architecture that a build's options ask for; its genes are chosen later.

    Raises:
        UntrainableReference: an option is unknown, out of bounds, or contradicts another.
        InputKindMismatch: the likelihood is not for this kind of input.
    """
    wanted = dict(options.get("architecture") or {})
    for counted in sorted(COUNTED & set(wanted)):
        raise UntrainableReference(
            f"{counted} follows from the genes that are chosen.",
            fix="Give `n_top_genes`, `n_top_regions` or `genes` instead.",
            errors=[{"pointer": f"/architecture/{counted}", "detail": "follows from the genes"}],
        )
    if options.get("size_factor_key"):
        wanted.setdefault("library", "size_factor")
    if options.get("depth_key"):
        wanted.setdefault("depth_factor", True)
    asked = kind_of(options)
    refuse_foreign(asked, wanted)
    feature: FeatureKind = "region" if asked in OF_REGIONS else "gene"
    # Sizes that follow from the number of features are left open.
    architecture = _architecture({**DEFAULTS.get(asked, {}), **wanted}, {feature: 1})
    _check_consistent(architecture, options)
    if kind != ("continuous" if architecture.likelihood == "normal" else "counts"):
        raise InputKindMismatch(
            f"The file was uploaded as {kind}, and likelihood {architecture.likelihood} "
            "needs the other kind of input.",
            fix="Use likelihood `normal` for continuous input and a count likelihood for counts.",
        )
    return architecture


def with_features(
    kind: Kind, wanted: dict[str, Any] | Architecture, counts: Mapping[FeatureKind, int]
) -> Architecture:
    """The same architecture for so many features of each kind.

    Raises:
        UntrainableReference: an option is unknown or out of bounds.
    """
    known = wanted.model_dump(exclude_unset=True) if isinstance(wanted, Architecture) else wanted
    known = {**DEFAULTS.get(kind, {}), **known}
    return _architecture({**sizes_of(kind, counts, known), **known}, counts)


def _architecture(known: Mapping[str, Any], counts: Mapping[FeatureKind, int]) -> Architecture:
    features = {"n_genes": 0, **{f"n_{each}s": n for each, n in counts.items()}}
    try:
        return Architecture(**{**known, **features})
    except ValidationError as error:
        said = [(str(each["loc"][0]), _say(each)) for each in error.errors()]
        raise UntrainableReference(
            " ".join(sentence for _, sentence in said),
            fix=FIX,
            errors=[
                {"pointer": f"/architecture/{name}", "detail": sentence} for name, sentence in said
            ],
        ) from error


def _check_consistent(architecture: Architecture, options: dict[str, Any]) -> None:
    if (architecture.library == "size_factor") != bool(options.get("size_factor_key")):
        raise UntrainableReference(
            "library=size_factor and a size factor column belong together.",
            fix="Give both `size_factor_key` and library=size_factor, or neither.",
        )
    if architecture.depth_factor != bool(options.get("depth_key")):
        raise UntrainableReference(
            "depth_factor=true and a column of depths belong together.",
            fix="Give both `depth_key` and depth_factor=true, or neither.",
        )
    if architecture.depth_factor and architecture.library != "size_factor":
        raise UntrainableReference(
            "Depths of regions are given beside size factors of genes.",
            fix="Name their column with `size_factor_key`, or leave `depth_key` out.",
        )
    _check_labels(architecture, options)


def _check_labels(architecture: Architecture, options: dict[str, Any]) -> None:
    kind = kind_of(options)
    if kind == "multivi":
        _check_modalities(architecture)
    if kind == "scvi" and architecture.linear_classifier:
        raise UntrainableReference(
            "linear_classifier is an option of kind SCANVI; SCVI has no classifier.",
            fix="Leave it out, or build kind SCANVI.",
        )
    if kind == "scanvi" and architecture.latent_distribution != "normal":
        raise UntrainableReference(
            "SCANVI has a normal latent: its loss needs the density of the latent coordinates.",
            fix="Leave latent_distribution out.",
        )
    if kind == "totalvi" and (
        architecture.dispersion == "gene-cell" or architecture.likelihood not in {"nb", "zinb"}
    ):
        raise UntrainableReference(
            "TOTALVI has the likelihoods nb and zinb, and no dispersion of each cell.",
            fix="Choose another likelihood or dispersion.",
        )
    if architecture.protein_dispersion == "protein-label" and not options.get("labels_keys"):
        raise UntrainableReference(
            "protein_dispersion=protein-label needs a labels column.",
            fix="Name one with `labels_keys`.",
        )
    if architecture.dispersion == "gene-label" and not options.get("labels_keys"):
        raise UntrainableReference(
            "dispersion=gene-label needs a labels column.", fix="Name one with `labels_keys`."
        )


def _check_modalities(architecture: Architecture) -> None:
    if architecture.dispersion_by_label:
        raise UntrainableReference(
            "MULTIVI looks at no labels, and has no dispersion by label.",
            fix="Choose dispersion `gene`, and protein_dispersion `protein`.",
        )
    if architecture.library == "latent":
        raise UntrainableReference(
            "library=latent is no option of kind MULTIVI, whose library has no prior.",
            fix="Leave library out, or build kind SCVI.",
        )
    if architecture.likelihood == "normal":
        raise UntrainableReference(
            "MULTIVI models counts, and has no likelihood `normal`.",
            fix="Choose another likelihood and upload raw counts, or build kind SCVI.",
        )


def _say(error: ErrorDetails) -> str:
    """One thing that the schema found, in a sentence of ours."""
    name, value = error["loc"][0], error["input"]
    if error["type"] == "extra_forbidden":
        known = ", ".join(each for each in Architecture.model_fields if each not in COUNTED)
        return f"The architecture has no option {name!r}; it has {known}."
    return f"{name} is {value!r}, and must be {_bound(error)}."


def _bound(error: ErrorDetails) -> str:
    bounds = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    context = error.get("ctx", {})
    for key, words in bounds.items():
        if key in context:
            return f"{words} {context[key]}"
    if "expected" in context:
        return f"one of {context['expected']}"
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    return kinds.get(error["type"].split("_")[0], "of another kind")
