"""What an import found, in plain words: for the person who has to decide whether to use it."""

from __future__ import annotations

from collections.abc import Iterator

from models_store.manifest import Covariate, Manifest
from worker.imports.cell_sources import EncodedCells
from worker.imports.reference import Imported
from worker.imports.reference_cells import ReferenceCells
from worker.obs import listed


def tell(imported: Imported) -> Iterator[str]:
    """One sentence or two for each thing that was found."""
    manifest, save = imported.manifest, imported.save
    a = manifest.architecture
    yield (
        f"Reference {manifest.name} version {manifest.version} is ready: a {save.model} model of "
        f"scvi-tools {_version(save.version_name)}, {a.n_layers} x {a.n_hidden} hidden units, "
        f"{a.n_latent} latent dimensions, {a.likelihood}."
    )
    if not save.is_trained:
        yield "The save says that the model was never trained: its latents mean nothing."
    yield _genes(manifest)
    yield f"Batches: {_covariate(manifest.batch)}."
    for covariate in manifest.extra_covariates:
        yield f"Further covariate, which a query must have: {_covariate(covariate)}."
    if manifest.continuous_covariates:
        yield f"A query must have the numbers {listed(manifest.continuous_covariates)} in obs."
    if manifest.size_factor_key:
        yield f"A query must have size factors in obs[{manifest.size_factor_key!r}]."
    if manifest.depth_key:
        yield f"A query must have depths in regions, 0 to 1, in obs[{manifest.depth_key!r}]."
    yield from _labels(manifest)
    yield _surgery(manifest)
    if manifest.recipe_evidence is not None:
        yield f"Default recipe: {manifest.recipe_evidence.reason}"
    yield from _cells(imported.cells, save.n_cells)
    yield "The bundle passed its self-test: the weights load, and padded cells map."


def _version(name: str) -> str:
    return f"{name} (a development version)" if name == "0.0.0" else name


def _genes(manifest: Manifest) -> str:
    names = manifest.genes
    run = names.slices()["gene"]
    ids = names.ids[run]
    others = [f"{n:,} {each}s" for each, n in names.counts().items() if n and each != "gene"]
    if not ids:
        return f"{' and '.join(others)}: {listed(names.ids, most=3)}."
    columns = {
        word: column[run]
        for word, column in (("symbols", names.symbols), ("Ensembl ids", names.ensembl))
        if column is not None
    }
    kind = "names of another kind"
    if columns.get("Ensembl ids") == ids:
        kind = "Ensembl ids"
    elif columns.get("symbols") == ids:
        kind = "symbols, or names of another kind"
    also = [word for word, column in columns.items() if column != ids]
    beside = f", with {listed(also)} beside them" if also else ""
    further = f" Besides {' and '.join(others)}." if others else ""
    return f"{len(ids):,} genes by {kind}{beside}: {listed(ids, most=3)}.{further}"


def _covariate(covariate: Covariate) -> str:
    categories = covariate.categories
    if covariate.key is None:
        return "none; the model was trained without a batch column, as one batch"
    return f"{len(categories)} in obs[{covariate.key!r}]: {listed(categories, most=8)}"


def _labels(manifest: Manifest) -> Iterator[str]:
    for level in manifest.labels:
        yield f"Label level {level.key!r}: {listed(level.categories, most=8)}."
    if not manifest.labels:
        yield "No labels."
    if manifest.unlabeled_category is not None:
        yield f"Cells without a label are called {manifest.unlabeled_category!r}."


def _surgery(manifest: Manifest) -> str:
    if manifest.surgery_has_effect:
        return "Surgery has an effect: the encoder sees the batch."
    return (
        "Surgery has no effect: the encoder does not see the batch (encode_covariates is off). "
        "Queries map, but their coordinates are those of recipe `forward`, whatever the recipe, "
        "and every answer says so."
    )


def _cells(cells: ReferenceCells | None, trained_on: int | None) -> Iterator[str]:
    if cells is None:
        yield (
            "No cells came with it: there are no reference latents (cells.parquet), so nothing can "
            "be looked up among them, and the expected expression is the decoder's."
        )
        return
    n_cells = len(cells.columns.names)
    if isinstance(cells.source, EncodedCells):
        yield (
            f"{n_cells:,} cells encoded from `{cells.facts['counts_from']}`; each came out bit for "
            "bit when encoded again with large query weights."
        )
        if cells.source.empty:
            yield f"{cells.source.empty:,} of them have no counts: their place means nothing."
    else:
        variance = "" if cells.facts.get("n_variance") else ", without their variances"
        yield (
            f"{n_cells:,} cells with the latents of `{cells.facts['latent_from']}`{variance}. "
            "There were no counts to encode, so the expected expression is the decoder's."
        )
    if trained_on not in (None, n_cells):
        yield f"The save says that it was trained on {trained_on:,} cells."
    if cells.columns.umap is None:
        yield "No UMAP was named (--umap-key)."
