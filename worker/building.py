"""Building a reference version: canonical counts in, a tested bundle out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from app.problems import SelfTestFailed, UntrainableReference
from models_store.blocks import block_ranges
from models_store.bundle import InvalidBundle, with_large_query_weights, write_bundle
from models_store.cells import Cells, select_cells
from models_store.cvae import CVAE
from models_store.encoding import Latents, encode, join_projections
from models_store.expectation import DRAWS
from models_store.informativeness import informativeness
from models_store.manifest import Manifest, OwnFit
from models_store.protein_panels import with_measured
from models_store.sparse_blocks import BlockProjector
from models_store.sparse_counts import occupied, scipy_counts, sparse_counts
from worker.alignment import AlignedCounts
from worker.canonical import CanonicalQuery
from worker.covariates import design_query
from worker.drafting import batch_values, draft_manifest
from worker.known_cells import KnownCells
from worker.obs import category_names
from worker.orders import BuildOrder, Report
from worker.own_fit import FEWEST_JUDGES, measure_own_fit
from worker.recipe_search import RecipeSearch, plan_search
from worker.reference_training import Tick, TrainedReference, split_cells
from worker.training_plan import TrainingPlan

HELD_OUT = 0.1
DRAFTED, TRAINED = 0.03, 0.9
"""Progress when training begins, and when it and the search for a recipe are done."""


def run_build(order: BuildOrder, report: Report) -> dict[str, Any]:
    """Train a reference and write its bundle into the order's folder; returns the manifest.

    Raises:
        Problem: the cells cannot make a reference, with what to do about it.
    """
    query = CanonicalQuery.open(order.canonical)
    report("choosing genes", 0.0)
    draft = draft_manifest(order, query)
    cells = _cells(query, draft, order.device)
    search = _search(order, query, draft)
    plan = TrainingPlan.of(order.options, order.device)
    cvae = plan.draw(draft)
    between = TRAINED - DRAFTED
    trained = _train(
        plan,
        draft,
        cvae,
        cells,
        lambda share: report("training", DRAFTED + between * search.begin * share),
    )
    _must_be_finite(trained)
    evidence = search.run(plan, report, begin=DRAFTED + between * search.begin, end=TRAINED)
    draft = draft.model_copy(update=evidence.fields())
    report("encoding", 0.92)
    return _finish(order, query, draft, trained, cvae, cells)


def _search(order: BuildOrder, query: CanonicalQuery, draft: Manifest) -> RecipeSearch:
    known, options = None, order.options
    if draft.batch.key is not None:
        known = KnownCells.of(
            draft,
            _counts(query, draft),
            query.obs(),
            batch_key=draft.batch.key,
            condition_key=options.get("condition_key"),
        )
    return plan_search(draft, known, options.get("recipe_search"))


def _train(
    plan: TrainingPlan, draft: Manifest, cvae: CVAE, cells: Cells, tick: Tick
) -> TrainedReference:
    training, held_out = _split(cells, plan.seed)
    return plan.train(cvae, draft, training, tick, n_cells=len(cells.x), held_out=held_out)


def _finish(
    order: BuildOrder,
    query: CanonicalQuery,
    draft: Manifest,
    trained: TrainedReference,
    cvae: CVAE,
    cells: Cells,
) -> dict[str, Any]:
    for parameter in cvae.parameters():
        parameter.requires_grad_(False)
    latents = encode_reference(cvae, cells)
    if not torch.isfinite(latents.mean).all() or not torch.isfinite(latents.variance).all():
        raise _diverged("the reference's own cells have no finite coordinates")
    again = encode_reference(with_large_query_weights(cvae), cells)
    provenance = draft.provenance.model_copy(
        update={
            "epochs": trained.epochs,
            "held_out_elbo": trained.held_out_elbo,
            "held_out_accuracy": trained.held_out_accuracy,
            "seconds": round(trained.seconds, 1),
        }
    )
    found = {
        "provenance": provenance,
        "own_fit": _own_fit(draft, cvae, cells, order.options.get("seed", 0)),
        "informativeness": informativeness(cvae, latents.mean[:: 1 + len(latents.mean) // DRAWS]),
    }
    manifest = draft.model_copy(update=found)
    try:
        complete = write_bundle(
            order.out,
            manifest,
            cvae,
            _cell_table(query, manifest, latents),
            reproduced=_same_bytes(latents, again),
        )
    except InvalidBundle as error:
        raise SelfTestFailed(
            f"The new reference failed its self-test: {error}.",
            fix="Build it again; if it fails again, report it with this message.",
        ) from error
    if complete.self_test is None or not complete.self_test.reference_reproduced:
        raise SelfTestFailed(
            "Reference cells moved when query weights were added, which must never happen.",
            fix="Report this with the build's options.",
        )
    return complete.model_dump(mode="json")


def encode_reference(cvae: CVAE, cells: Cells) -> Latents:
    """Latents of reference cells through the very path that a mapping takes."""
    rows, project = scipy_counts(cells.x), BlockProjector(cvae)
    numbers = (cells.continuous, cells.size_factor)
    blocks = [slice(start, stop) for start, stop in block_ranges(len(cells.x))]
    parts = [project(rows[b], *(None if n is None else n[b] for n in numbers)) for b in blocks]
    return encode(cvae, join_projections(parts), cells.codes)


def _own_fit(draft: Manifest, cvae: CVAE, cells: Cells, seed: int) -> tuple[OwnFit, ...] | None:
    _, held_out = _split(cells, seed)
    if held_out is None or len(held_out.x) < FEWEST_JUDGES:
        return measure_own_fit(draft, cvae, scipy_counts(cells.x), "all")
    return measure_own_fit(draft, cvae, scipy_counts(held_out.x), "held-out")


def _same_bytes(a: Latents, b: Latents) -> bool:
    return torch.equal(a.mean, b.mean) and torch.equal(a.variance, b.variance)


def _cells(query: CanonicalQuery, draft: Manifest, device: str) -> Cells:
    """Every cell with its counts in the panel, and its codes: a reference is its own query."""
    labels_key = draft.labels[0].key if draft.labels else None
    design = design_query(
        query.obs(),
        draft,
        batch_key=None if draft.batch.key is None else [draft.batch.key],
        labels_key=labels_key,
        reuse_batches=True,
    )
    counts = _counts(query, draft)

    def there(values: npt.NDArray[np.generic] | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values).to(device)

    cells = Cells(
        sparse_counts(counts.chosen(np.arange(query.n_cells))).to(device),
        tuple(torch.from_numpy(code).to(device) for code in design.codes),
        there(design.continuous),
        there(design.labels),
        there(design.size_factor),
    )
    return with_measured(cells, draft.architecture.n_proteins)


def _counts(query: CanonicalQuery, draft: Manifest) -> AlignedCounts:
    return AlignedCounts(query, draft.match_genes(query.genes().alone("index")))


def _split(cells: Cells, seed: int) -> tuple[Cells, Cells | None]:
    """Cells that train and cells that judge; cells without counts do neither."""
    there = occupied(cells.x)
    training, held_out = split_cells(len(there), HELD_OUT, seed)
    judges = select_cells(cells, there[held_out.to(there.device)]) if len(held_out) else None
    return select_cells(cells, there[training.to(there.device)]), judges


def _must_be_finite(trained: TrainedReference) -> None:
    if trained.held_out_elbo is not None and not np.isfinite(trained.held_out_elbo):
        raise _diverged("the held-out ELBO is not a finite number")


def _diverged(how: str) -> UntrainableReference:
    return UntrainableReference(
        f"Training diverged: {how}.",
        fix="Check that the counts are raw, or train with another seed or fewer genes.",
    )


def _cell_table(query: CanonicalQuery, manifest: Manifest, latents: Latents) -> pd.DataFrame:
    """The rows of cells.parquet."""
    obs = query.obs()
    n_latent = manifest.architecture.n_latent
    mean, variance = latents.mean.cpu().numpy(), latents.variance.cpu().numpy()
    columns: dict[str, Any] = {f"latent_{i}": mean[:, i] for i in range(n_latent)}
    columns |= {f"variance_{i}": variance[:, i] for i in range(n_latent)}
    columns["batch"] = batch_values(obs, manifest.batch.key).to_numpy()
    for level in manifest.labels:
        columns[level.key] = category_names(obs[level.key]).to_numpy()
    return pd.DataFrame(columns, index=obs.index.astype(str))
