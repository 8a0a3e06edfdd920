"""A query model of several modalities in scvi-tools' own terms: the way back of `multivi_names`.

As `scvi_export`, with a MuData of the cells: since 1.4 scvi-tools sets up no MULTIVI from one
table.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from models_store import multivi_names
from models_store.coders import Dispersion
from models_store.feature_kinds import FeatureKind
from models_store.layers import ConditionalLinear, FullyConnected
from models_store.manifest import Manifest
from models_store.multivi import MULTIVI
from models_store.scvi_export import (
    QueryColumns,
    attributes,
    conditional_state,
    field,
    names_array,
    stack_state,
)

OUTPUT = re.compile(
    r"^z_decoder_(expression\.px_(scale|r|dropout)_decoder|accessibility\.output"
    r"|pro\.py_(fore_scale|background)_decoder|pro\.py_back_mean_log_\w+)\."
)
"""Layers of decoders that end in features: of a kind that there are none of, they have no rows."""
MODALITIES: dict[FeatureKind, str] = {"gene": "rna", "region": "atac", "protein": "protein"}
LAYERS: dict[FeatureKind, str] = {
    "gene": "rna_layer",
    "region": "atac_layer",
    "protein": "protein_layer",
}
FIELDS: dict[FeatureKind, str] = {"gene": "X", "region": "atac", "protein": "proteins"}
COUNTED: dict[FeatureKind, str] = {"region": "n_atac", "protein": "n_proteins"}
"""What a registry calls the modality, its layer, its field, and how many features it has."""
DECODERS = ("z_decoder_expression.", "z_decoder_accessibility.", "z_decoder_pro.")
"""Of genes, of regions and of proteins."""


def multi_state_dict(grafted: MULTIVI) -> dict[str, Tensor]:
    """The weights of a grafted network under scvi-tools' names.

    scvi-tools saves decoders and layers that a configuration never looks at; they are zero here.
    """
    found = dict(_state(grafted))
    absent = [
        d for d, n in zip(DECODERS, grafted.architecture.counts().values(), strict=True) if not n
    ]
    for name, values in _state(_twin_with_every_part(grafted)):
        if name not in found and "." in name:
            zeros = torch.zeros_like(values)
            found[name] = (
                zeros[:0] if name.startswith(tuple(absent)) and OUTPUT.match(name) else zeros
            )
    found |= {name: values for name, values in _unused(grafted) if name not in found}
    return {name: values.detach().cpu().clone() for name, values in found.items()}


def multi_attributes(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    """What scvi-tools keeps beside the weights: options, registry, and that it is trained."""
    told = attributes(manifest, columns)
    told["init_params_"] = _options(manifest)
    told["get_normalized_function_name_"] = "get_normalized_accessibility"
    registry, fields = told["registry_"], told["registry_"]["field_registries"]
    registry["setup_method_name"] = "setup_mudata"
    setup = registry["setup_args"]
    for key in ("layer", "labels_key"):
        del setup[key]
    modalities = {LAYERS[kind]: name for kind, name in modality_names(manifest).items()}
    setup |= {**dict.fromkeys(LAYERS.values()), "idx_layer": None, "modalities": modalities}
    if columns.size_factor is not None and columns.depth is not None:
        factors = [columns.size_factor, columns.depth]
        setup["size_factor_key"] = factors
        fields["size_factor"] = field(
            ("obsm", "_scvi_size_factor"),
            {"columns": names_array(factors)},
            n_size_factor=len(factors),
        )
    del fields["X"]
    fields["ind_x"] = field(("obs", "_indices"))
    for kind, name in modality_names(manifest).items():
        ids = names_array(manifest.genes.ids[manifest.genes.slices()[kind]])
        state = {"n_obs": columns.n_cells, "n_vars": len(ids), "column_names": ids}
        counted = {"n_vars": len(ids), "n_cells": columns.n_cells} if kind == "gene" else {}
        made = field(("X", None), state, **(counted or {COUNTED[kind]: len(ids)}))
        made["data_registry"]["mod_key"] = name
        fields[FIELDS[kind]] = made
    return told


def modality_names(manifest: Manifest) -> dict[FeatureKind, str]:
    """What the modality of each kind of features that the reference has is called."""
    return {kind: MODALITIES[kind] for kind, n in manifest.genes.counts().items() if n}


def var_names(manifest: Manifest) -> dict[str, Any]:
    """The names of the features of each modality."""
    slices = manifest.genes.slices()
    names = modality_names(manifest)
    return {name: names_array(manifest.genes.ids[slices[kind]]) for kind, name in names.items()}


def _options(manifest: Manifest) -> dict[str, Any]:
    a = manifest.architecture
    named = {
        "n_genes": a.n_genes,
        "n_regions": a.n_regions,
        "n_hidden": a.n_hidden,
        "n_latent": a.n_latent,
        "n_layers_encoder": a.n_layers,
        "n_layers_decoder": a.n_layers_decoder or a.n_layers,
        "dropout_rate": a.dropout_rate,
        "region_factors": a.region_factors,
        "gene_likelihood": a.likelihood,
        "dispersion": a.dispersion,
        "protein_dispersion": a.protein_dispersion,
        "use_batch_norm": a.batch_norm,
        "use_layer_norm": a.layer_norm,
        "latent_distribution": a.latent_distribution,
        "deeply_inject_covariates": a.deeply_inject_covariates,
        "encode_covariates": a.encode_covariates,
        "modality_weights": a.modality_weights,
        "modality_penalty": a.modality_penalty,
    }
    return {"kwargs": {"model_kwargs": {}}, "non_kwargs": named}


def _state(network: MULTIVI) -> Iterator[tuple[str, Tensor]]:
    modules, tensors = dict(network.named_modules()), network.state_dict()
    for ours, theirs in multivi_names.STACKS.items():
        if isinstance(stack := modules.get(ours), FullyConnected):
            yield from stack_state(theirs, stack)
    for ours, theirs in multivi_names.OUTPUTS.items():
        if isinstance(linear := modules.get(ours), ConditionalLinear):
            yield from conditional_state(f"{theirs}.fc_layers.Layer 0.0", linear)
    for ours, theirs in {**multivi_names.HEADS, **multivi_names.TENSORS}.items():
        for part in ("", ".weight", ".bias"):
            if f"{ours}{part}" in tensors:
                yield f"{theirs}{part}", tensors[f"{ours}{part}"]
    yield from _dispersions(network)


def _dispersions(network: MULTIVI) -> Iterator[tuple[str, Tensor]]:
    modules, by_batch = dict(network.named_modules()), list(network.batch_tables())
    for ours, theirs in multivi_names.DISPERSIONS.items():
        if isinstance(table := modules.get(ours), Dispersion):
            rows = torch.cat([table.reference, table.query])
            yield theirs, rows.T if table in by_batch else rows[0]


def _n_categories(grafted: MULTIVI) -> list[int]:
    decoder = grafted.gene_decoder or grafted.region_decoder or grafted.protein_decoder
    stack = next(m for m in decoder.modules() if isinstance(m, FullyConnected)) if decoder else None
    assert stack is not None
    first = stack.linears[0]
    assert isinstance(first, ConditionalLinear)
    return [len(rows.reference) + len(rows.query) for rows in first.covariate_rows()]


def _twin_with_every_part(grafted: MULTIVI) -> MULTIVI:
    """A network of the same sizes that has every decoder, of one feature where it has none."""
    a = grafted.architecture
    sizes = {f"n_{kind}s": max(1, n) for kind, n in a.counts().items()}
    encoded = {"library": "observed", "depth_factor": False}
    return MULTIVI(
        a.model_copy(update={**sizes, **encoded, "likelihood": "zinb", "dispersion": "gene"}),
        n_categories=_n_categories(grafted),
        n_continuous=grafted.n_continuous,
    )


def _unused(grafted: MULTIVI) -> Iterator[tuple[str, Tensor]]:
    """Tensors that scvi-tools' module always has."""
    a, n_batches = grafted.architecture, _n_categories(grafted)[0]
    for name in ("background_pro_alpha", "background_pro_log_beta"):
        yield name, torch.zeros(a.n_proteins, n_batches)
    by_batch = a.protein_dispersion == "protein-batch"
    yield "py_r", torch.zeros(0, n_batches) if by_batch else torch.zeros(0)
    yield "px_r", torch.zeros(0)
    if a.region_factors:
        yield "region_factors", torch.zeros(0)
    yield "z_decoder_expression.px_r_decoder.weight", torch.zeros(a.n_genes, a.n_hidden)
    yield "z_decoder_expression.px_r_decoder.bias", torch.zeros(a.n_genes)
