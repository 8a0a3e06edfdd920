"""A mapping as a folder that scvi-tools loads as the query model: nobody is locked in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from safetensors.torch import load_file

from app.problems import UnexportableMapping
from models_store.manifest import Architecture, Manifest
from models_store.multivi import MULTIVI
from models_store.multivi_export import (
    modality_names,
    multi_attributes,
    multi_state_dict,
    var_names,
)
from models_store.peakvi import PEAKVI
from models_store.region_export import peak_state_dict, region_attributes
from models_store.scvi import SCVI
from models_store.scvi_export import (
    QueryColumns,
    attributes,
    label_names,
    looks_at_labels,
    state_dict,
)
from models_store.surgery import graft, load_query_weights
from models_store.totalvi import TOTALVI
from models_store.totalvi_export import PROTEINS, total_attributes, total_state_dict
from worker.mapping import QUERY_WEIGHTS_FILE
from worker.matched_query import MatchedQuery, match_query
from worker.mudata_files import write_h5mu
from worker.names import free_name
from worker.orders import MapOrder
from worker.reference_cache import ReferenceCache
from worker.results import BATCH

LABELS = "cellgraft_given_label"
MODEL_FILE, CELLS_FILE, MODALITIES_FILE = "model.pt", "adata.h5ad", "mdata.h5mu"


@dataclass(frozen=True)
class ExportedModel:
    """What was written, for the person who asked for it."""

    kind: str
    n_cells: int
    n_absent_features: int
    batch_key: str

    @property
    def module(self) -> str:
        """Where in scvi-tools its class is."""
        return "external" if self.kind == "POISSONVI" else "model"


def export_mapping(order: MapOrder, results: Path) -> ExportedModel:
    """Write `model.pt` and `adata.h5ad` into the order's folder.

    Args:
        order: the mapping as it was made; `out` is where the files go.
        results: the folder of its results, with its query weights.

    Raises:
        UnexportableMapping: scvi-tools has no model like the reference.
        Problem: the query or the reference is not what it was.
    """
    matched = match_query(order, ReferenceCache())
    manifest = matched.surgery.manifest
    _refuse_unknown_models(manifest)
    grafted = graft(matched.surgery.cvae, matched.surgery.design.n_new)
    load_query_weights(grafted, load_file(results / QUERY_WEIGHTS_FILE))
    obs, columns = _obs(matched)
    told = attributes(manifest, columns)
    if isinstance(grafted, TOTALVI):
        state, told = total_state_dict(grafted), total_attributes(manifest, columns)
    elif isinstance(grafted, PEAKVI):
        state, told = peak_state_dict(grafted), region_attributes(manifest, columns)
    elif isinstance(grafted, MULTIVI):
        state, told = multi_state_dict(grafted), multi_attributes(manifest, columns)
    else:
        assert isinstance(grafted, SCVI)
        state = state_dict(grafted, manifest.kind)
        if manifest.kind == "poissonvi":
            told = region_attributes(manifest, columns)
    names: Any = np.array(manifest.genes.ids[_genes(manifest)], dtype=object)
    if isinstance(grafted, MULTIVI):
        names = var_names(manifest)
        _write_modalities(order.out / MODALITIES_FILE, matched, obs)
    else:
        _write_cells(order.out / CELLS_FILE, matched, obs)
    # Only written: what scvi-tools reads is a pickle, and nothing here ever reads one.
    torch.save(
        {
            "model_state_dict": state,
            "var_names": names,
            "attr_dict": told,
        },
        order.out / MODEL_FILE,
    )
    absent = matched.match.n_absent
    return ExportedModel(manifest.kind.upper(), columns.n_cells, absent, columns.batch)


def _refuse_unknown_models(manifest: Manifest) -> None:
    if manifest.kind == "scanvi" and manifest.architecture.dispersion == "gene-label":
        raise UnexportableMapping(
            "scvi-tools 1.4.2 has no SCANVI with dispersion by label: it makes one for no labels.",
            fix="Use the mapping's results as they are, or map onto a reference of another "
            "dispersion.",
        )

    if manifest.kind == "totalvi" and not _has_its_like(manifest.architecture):
        raise UnexportableMapping(
            "scvi-tools 1.4.2 has no TOTALVI with this reference's maths: it is of a save with "
            "panels of proteins, with dispersions by label, or of before 1.3.1, or it sees its "
            "covariates in the first layer alone.",
            fix="Use the mapping's results as they are.",
        )

    if manifest.kind == "multivi" and manifest.size_factor_key and not manifest.depth_key:
        raise UnexportableMapping(
            "scvi-tools 1.4.2 has no MULTIVI with size factors of genes and without depths of "
            "regions.",
            fix="Use the mapping's results as they are, or map onto a reference with both or none.",
        )

    if manifest.kind == "multivi" and manifest.architecture.dispersion != "gene":
        raise UnexportableMapping(
            "scvi-tools 1.4.2 has no MULTIVI that decodes with dispersion "
            f"{manifest.architecture.dispersion}.",
            fix="Use the mapping's results as they are.",
        )

    if manifest.architecture.modality_penalty == "exact Jeffreys":
        raise UnexportableMapping(
            "scvi-tools 1.4.2 has no MULTIVI with this reference's penalty (exact Jeffreys), which "
            "saves of before 0.18 have.",
            fix="Use the mapping's results as they are.",
        )


def _has_its_like(a: Architecture) -> bool:
    as_there = a.protein_efficiency and a.deeply_inject_covariates
    return as_there and not a.n_panels and not a.dispersion_by_label


def _genes(manifest: Manifest) -> slice:
    """Where the features are that scvi-tools has in X: not the proteins."""
    genes = manifest.genes.slices()["gene"]
    return genes if manifest.kind == "totalvi" else slice(None)


def _obs(matched: MatchedQuery) -> tuple[pd.DataFrame, QueryColumns]:
    """The query's obs with the columns that the model reads, under the mapping's own names."""
    design, manifest = matched.surgery.design, matched.surgery.manifest
    obs, names = matched.obs.copy(), _categories(matched)
    if obs.index.name in obs.columns:
        obs.index.name = None  # anndata refuses an index that shares a column's name
    taken = {str(column) for column in (*obs.columns, obs.index.name)}
    batch = free_name(BATCH, taken)
    for key, code, categories in zip((batch, *_keys(manifest)), design.codes, names, strict=True):
        obs[key] = pd.Categorical.from_codes(code, categories=pd.Index(categories, dtype=object))
    labels = None
    if looks_at_labels(manifest):
        labels = free_name(LABELS, taken)
        obs[labels] = _labels(matched)
    size_factor, depth = None, None
    if design.size_factor is not None:
        factors = np.atleast_2d(design.size_factor.T)
        size_factor = free_name("cellgraft_size_factor", taken)
        obs[size_factor] = factors[0]
        if manifest.depth_key is not None:
            depth = free_name("cellgraft_depth", taken)
            obs[depth] = factors[1]
    return obs, QueryColumns(
        n_cells=len(obs),
        batch=batch,
        labels=labels,
        covariates=_keys(manifest),
        continuous=manifest.continuous_covariates,
        size_factor=size_factor,
        depth=depth,
        categories=names,
    )


def _keys(manifest: Manifest) -> tuple[str, ...]:
    return tuple(covariate.key or "" for covariate in manifest.extra_covariates)


def _categories(matched: MatchedQuery) -> tuple[tuple[str, ...], ...]:
    manifest, design = matched.surgery.manifest, matched.surgery.design
    covariates = (manifest.batch, *manifest.extra_covariates)
    return tuple(
        (*covariate.categories, *new)
        for covariate, new in zip(covariates, design.new_categories, strict=True)
    )


def _labels(matched: MatchedQuery) -> Any:
    """What the query said of its cells; for SCANVI all count as unlabelled.

    There a model whose cells all have a label would have one class too many.
    """
    manifest, given = matched.surgery.manifest, matched.surgery.design.given_labels
    names = np.array(label_names(manifest), dtype=object)
    nobody = np.full(len(matched.obs), len(names) - 1)
    codes = nobody if given is None or manifest.kind == "scanvi" else given.codes
    return pd.Categorical(names[codes], categories=pd.Index(names, dtype=object))


def _write_cells(path: Path, matched: MatchedQuery, obs: pd.DataFrame) -> None:
    """The counts in the order of the reference's genes; those that the query lacks are zero."""
    counts = matched.counts
    rows = [block for _, _, block in counts.blocks(0, counts.n_cells)]
    manifest = matched.surgery.manifest
    whole, ids = sp.vstack(rows, format="csr"), manifest.genes.ids
    var = pd.DataFrame(index=pd.Index(ids[_genes(manifest)], dtype=object))
    cells = anndata.AnnData(whole[:, _genes(manifest)], obs=obs, var=var)
    if manifest.kind == "totalvi":
        proteins = manifest.genes.slices()["protein"]
        counts_of = whole[:, proteins].toarray()
        cells.obsm[PROTEINS] = pd.DataFrame(counts_of, obs.index, list(ids[proteins]))
    with anndata.settings.override(allow_write_nullable_strings=True):
        cells.write_h5ad(path)


def _write_modalities(path: Path, matched: MatchedQuery, obs: pd.DataFrame) -> None:
    """The same for MULTIVI, each kind of features in a modality of its own."""
    counts, manifest = matched.counts, matched.surgery.manifest
    whole = sp.vstack([block for _, _, block in counts.blocks(0, counts.n_cells)], format="csr")
    slices, modalities = manifest.genes.slices(), {}
    for kind, name in modality_names(manifest).items():
        var = pd.DataFrame(index=pd.Index(manifest.genes.ids[slices[kind]], dtype=object))
        cells = pd.DataFrame(index=obs.index)
        modalities[name] = anndata.AnnData(whole[:, slices[kind]], obs=cells, var=var)
    write_h5mu(path, obs, modalities)
