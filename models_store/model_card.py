"""The model card of a reference version: its manifest in sentences."""

from models_store.manifest import Manifest


def model_card(manifest: Manifest) -> str:
    """Markdown for people who decide whether to map onto this reference."""
    a, p = manifest.architecture, manifest.provenance
    kind, of_species = manifest.kind.upper(), f" ({manifest.species})" if manifest.species else ""
    batches = ", ".join(manifest.batch.categories[:20])
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"A reference of kind {kind}: {p.n_cells:,} cells, {a.n_genes:,} genes{of_species}.",
        "",
        "| | |",
        "|---|---|",
        f"| latent dimensions | {a.n_latent} |",
        f"| layers x hidden units | {a.n_layers} x {a.n_hidden} |",
        f"| likelihood, dispersion | {a.likelihood}, {a.dispersion} |",
        f"| batch column | {manifest.batch.key or 'none'} |",
        f"| batches | {batches}{' ...' if len(manifest.batch.categories) > 20 else ''} |",
        f"| held-out ELBO per cell | {_number(p.held_out_elbo)} |",
        *_labels(manifest),
        f"| default recipe | {manifest.default_recipe.name} |",
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
    return "\n".join(lines) + "\n"


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
