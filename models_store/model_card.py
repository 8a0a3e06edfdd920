"""The model card of a reference version: its manifest in sentences."""

from models_store.manifest import Architecture, Manifest
from models_store.recipe_evidence import RecipeEvidence


def model_card(manifest: Manifest) -> str:
    """Markdown for people who decide whether to map onto this reference."""
    a, p = manifest.architecture, manifest.provenance
    kind, of_species = manifest.kind.upper(), f" ({manifest.species})" if manifest.species else ""
    batches = ", ".join(manifest.batch.categories[:20])
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"A reference of kind {kind}: {p.n_cells:,} cells, {_features(a)}{of_species}.",
        "",
        "| | |",
        "|---|---|",
        f"| latent dimensions | {a.n_latent} |",
        f"| layers x hidden units | {a.n_layers} x {a.n_hidden} |",
        f"| likelihood, dispersion | {_likelihood(manifest)} |",
        f"| batch column | {manifest.batch.key or 'none'} |",
        f"| batches | {batches}{' ...' if len(manifest.batch.categories) > 20 else ''} |",
        f"| held-out ELBO per cell | {_number(p.held_out_elbo)} |",
        *_labels(manifest),
        f"| default recipe | {_recipe(manifest)} |",
        f"| licence | {manifest.licence or 'not stated'} |",
        f"| citation | {manifest.citation or 'not stated'} |",
        f"| made | {p.created_at}, Cellgraft {p.cellgraft_version}, torch {p.torch_version} |",
        "",
    ]
    lines += [
        f"Label level `{level.key}`: {', '.join(level.categories)}." for level in manifest.labels
    ]
    if not manifest.surgery_has_effect:
        lines += [
            "",
            "**The encoder does not see the batch** (`encode_covariates` is off): surgery cannot "
            "change the latent coordinates of a query. Its latents are those of recipe `forward`.",
        ]
    return "\n".join([*lines, *_evidence(manifest.recipe_evidence)]) + "\n"


def _features(architecture: Architecture) -> str:
    """How many there are of each kind."""
    return " and ".join(f"{n:,} {kind}s" for kind, n in architecture.counts().items() if n)


def _likelihood(manifest: Manifest) -> str:
    a = manifest.architecture
    if manifest.kind == "peakvi":
        return "Bernoulli, none"
    return f"{a.likelihood}, {'none' if a.likelihood == 'poisson' else a.dispersion}"


def _recipe(manifest: Manifest) -> str:
    evidence = manifest.recipe_evidence
    chosen = None if evidence is None else evidence.chosen
    return manifest.default_recipe.name if chosen is None else f"{chosen}, chosen for this version"


def _evidence(evidence: RecipeEvidence | None) -> list[str]:
    """What each recipe did on the batches that were held out, a fold after the other."""
    if evidence is None:
        return []
    lines = ["", f"Default recipe: {evidence.reason}"]
    if evidence.folds:
        heads = ("held out", "recipe", "cells", "macro-F1", "mixing", "response", "ELBO", "seconds")
        lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for fold in evidence.folds:
        held_out = f"{', '.join(fold.batches[:3])}{' ...' if len(fold.batches) > 3 else ''}"
        for trial in fold.trials:
            figures = (trial.macro_f1, trial.mixing, trial.retained_response, trial.elbo)
            told = [held_out, trial.recipe, f"{trial.n_cells:,}", *map(_figure, figures)]
            lines.append(f"| {' | '.join(told)} | {trial.seconds:.1f} |")
    return lines


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _labels(manifest: Manifest) -> list[str]:
    """What a network of labels predicts, and how well."""
    if manifest.kind != "scanvi":
        return []
    accuracy, level = _number(manifest.provenance.held_out_accuracy), manifest.labels[0]
    return [
        f"| predicts | {level.key}, with {len(level.categories)} labels |",
        f"| cells without a label | {manifest.unlabeled_category or 'those without a value'} |",
        f"| right on held-out cells | {accuracy} |",
    ]


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
