"""An import from a save to a sealed bundle."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from app.problems import InconsistentSave, SelfTestFailed, UnfitCells, UnsupportedSave
from models_store import scvi_saves
from models_store.bundle import CELLS_FILE, InvalidBundle, seal_bundle
from models_store.digests import file_sha256
from models_store.expectation import DRAWS, expected_expression
from models_store.feature_kinds import KINDS
from models_store.gene_panel import Genes, Modality
from models_store.informativeness import informativeness
from models_store.manifest import Manifest, OwnFit, Provenance, Thresholds
from models_store.scvi_weights import ConvertedModel, convert
from worker.imports.card import licence_of
from worker.imports.cell_sources import EncodedCells, StoredLatents
from worker.imports.cell_table import write_cells
from worker.imports.order import ImportOrder, Report
from worker.imports.reader import read_save_apart
from worker.imports.reference_cells import ReferenceCells, read_reference_cells
from worker.imports.save import WEIGHTS
from worker.kind_options import OF_REGIONS
from worker.own_fit import MOST_CELLS, measure_own_fit
from worker.panel import gene_table
from worker.recipe_search import plan_search
from worker.reference_latents import sample_latents
from worker.region_panel import region_table
from worker.training_plan import TrainingPlan

WRITING, WRITTEN = 0.4, 0.9
"""Progress when the cells are read, and when they are written and the recipe is chosen."""


@dataclass(frozen=True)
class Imported:
    """A sealed bundle's manifest, and what a person should know of it."""

    manifest: Manifest
    save: scvi_saves.Save
    cells: ReferenceCells | None


def run_import(order: ImportOrder, number: Callable[[], int], report: Report) -> Imported:
    """Import a save, and the cells that come with it, into a bundle.

    `number` is asked for the version's number at the very end: an atlas takes a while, and others
    may register versions meanwhile.

    Raises:
        Problem: the save or its cells are refused, with the reason.
    """
    torch.set_num_threads(order.threads)
    report("reading the model", 0.0)
    model = read_model(order)
    draft = _draft(order, model)
    cells = read_reference_cells(order, model, draft, report)
    draft = draft if cells is None else cells.describe(draft)
    search = plan_search(draft, None if cells is None else cells.known, order.options.recipe_search)
    begin = WRITING + search.begin * (WRITTEN - WRITING)
    if cells is None:
        expected, reproduced = expected_expression(model.network), None
        told = informativeness(model.network)
    else:
        report("writing the cells", WRITING)
        write_cells(
            order.out / CELLS_FILE,
            cells.columns,
            cells.source.blocks(),
            lambda share: report("writing the cells", WRITING + (begin - WRITING) * share),
        )
        expected, reproduced = _expected(model, cells)
        told = informativeness(model.network, sample_latents(order.out / CELLS_FILE, DRAWS))
        draft = draft.model_copy(update={"own_fit": _own_fit(draft, model, cells)})
    evidence = search.run(TrainingPlan("cpu"), report, begin=begin, end=WRITTEN)
    manifest = draft.model_copy(
        update={
            **evidence.fields(),
            "expected_expression": expected,
            "informativeness": told,
            "version": number(),
        }
    )
    report("testing", 0.95)
    sealed = _seal(order.out, Manifest.model_validate(manifest.model_dump()), model, reproduced)
    return Imported(sealed, model.save, cells)


def read_model(order: ImportOrder) -> ConvertedModel:
    """The network of a save, read in the sandbox and checked.

    Raises:
        Problem: see `worker.imports.reader`; or the save is of no supported kind, or inconsistent.
    """
    folder = order.scratch / "save"
    facts = read_save_apart(order.found.files, folder, order.save_limits, order.layers)
    state = {name: _as_float(t) for name, t in load_file(folder / WEIGHTS).items()}
    with _refusing():
        save = scvi_saves.read_description(facts["var_names"], facts["attributes"], state)
        return convert(save, state)


def _as_float(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.is_floating_point() else values


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except scvi_saves.UnsupportedSave as error:
        raise UnsupportedSave(
            f"This save cannot become a reference: {error}.",
            fix="Train a supported model on the same cells with default options where named here, "
            "or build the reference from the cells (cellgraft references build).",
        ) from error
    except scvi_saves.InconsistentSave as error:
        raise InconsistentSave(
            f"The save contradicts itself: {error}.",
            fix="Load the model where it was made, check it, and save it again (model.save).",
        ) from error


def _draft(order: ImportOrder, model: ConvertedModel) -> Manifest:
    """The manifest before the cells are known, with any expression for the time being."""
    save, options = model.save, order.options
    n_features = len(save.features)
    return Manifest(
        name=options.name,
        version=1,
        kind=model.kind,
        input="continuous" if model.architecture.likelihood == "normal" else "counts",
        architecture=model.architecture,
        genes=region_table(save.genes) if model.kind in OF_REGIONS else _panel(save),
        species=options.species,
        thresholds=Thresholds.given(options.refuse_below, options.warn_below),
        batch=save.batch,
        extra_covariates=save.extra_covariates,
        continuous_covariates=save.continuous_covariates,
        size_factor_key=save.size_factor_key,
        depth_key=save.depth_key,
        labels=(save.labels,) if save.labels else (),
        unlabeled_category=save.unlabeled_category,
        expected_expression=(1 / n_features,) * n_features,
        licence=options.licence or licence_of(order.found.card),
        citation=options.citation,
        provenance=_provenance(order, model),
    )


def _panel(save: scvi_saves.Save) -> Genes:
    """The genes under each kind of name that they are, then regions and proteins."""
    runs = zip(KINDS, (save.genes, save.regions, save.proteins), strict=True)
    modalities = tuple(Modality(kind=kind, count=len(names)) for kind, names in runs if names)
    if not save.genes:
        return Genes(ids=save.features, modalities=modalities)
    genes = gene_table({"index": list(save.genes)}, np.arange(len(save.genes)))
    if len(modalities) == 1:
        return genes
    empty = ("",) * (len(save.features) - len(save.genes))
    return Genes(
        ids=save.features,
        symbols=None if genes.symbols is None else genes.symbols + empty,
        ensembl=None if genes.ensembl is None else genes.ensembl + empty,
        modalities=modalities,
    )


def _provenance(order: ImportOrder, model: ConvertedModel) -> Provenance:
    now = datetime.datetime.fromtimestamp(time.time(), tz=datetime.UTC)
    save = model.save
    return Provenance(
        cellgraft_version=version_of("cellgraft"),
        torch_version=torch.__version__,
        source_sha256=file_sha256(order.found.files.model),
        source_name=order.source,
        n_cells=save.n_cells or 0,
        seed=0,
        created_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        settings={
            "imported_from": f"scvi-tools {save.model}",
            "scvi_tools_version": save.version_name,
            "is_trained": save.is_trained,
        },
    )


def _expected(
    model: ConvertedModel, cells: ReferenceCells
) -> tuple[tuple[float, ...], bool | None]:
    """Each gene's share of the counts, or of what the decoder expects where there are none."""
    if isinstance(cells.source, EncodedCells):
        whole = cells.source.expression.sum()
        if whole == 0 and model.architecture.likelihood != "normal":
            raise UnfitCells(
                f"No cell has a value above zero in `{cells.facts['counts_from']}` for any of the "
                "model's genes.",
                fix="Name the counts with --layer, or the latents with --latent-key.",
            )
        if whole == 0:  # values around zero, none of whose cells has a sum above it
            return expected_expression(model.network), cells.source.reproduced
        shares = cells.source.expression / whole
        return tuple(float(share) for share in shares), cells.source.reproduced
    assert isinstance(cells.source, StoredLatents)
    z, chosen = cells.source.sample(DRAWS)
    batches = torch.from_numpy(np.asarray(cells.columns.batch.codes)[chosen].astype(np.int64))
    return expected_expression(model.network, z, batches), None


def _own_fit(
    draft: Manifest, model: ConvertedModel, cells: ReferenceCells
) -> tuple[OwnFit, ...] | None:
    """Of a sample of the cells, most of which the network was trained on; None without counts."""
    if not isinstance(cells.source, EncodedCells):
        return None
    counts = cells.source.counts
    n = counts.n_cells
    chosen = np.random.default_rng(0).choice(n, min(MOST_CELLS, n), replace=False)
    rows = counts.chosen(np.sort(chosen))
    return measure_own_fit(draft, model.network, rows, "all")


def _seal(
    out: Path, manifest: Manifest, model: ConvertedModel, reproduced: bool | None
) -> Manifest:
    if reproduced is False:
        raise SelfTestFailed(
            "Reference cells moved when query weights were added, which must never happen.",
            fix="Report this with the model.",
        )
    n_checked = manifest.provenance.n_cells if reproduced else 0
    try:
        return seal_bundle(out, manifest, model.network, reproduced=reproduced, n_checked=n_checked)
    except InvalidBundle as error:
        raise SelfTestFailed(
            f"The imported reference failed its self-test: {error}.",
            fix="Import it again; if it fails again, report it with this message.",
        ) from error
