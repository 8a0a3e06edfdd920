"""A query model of genes and proteins in scvi-tools' own terms: the way back of `totalvi_names`.

As `scvi_export`, with the proteins in obsm beside the genes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models_store import totalvi_names
from models_store.coders import Dispersion
from models_store.layers import ConditionalLinear, FullyConnected
from models_store.manifest import Manifest
from models_store.scvi_export import (
    QueryColumns,
    attributes,
    conditional_state,
    field,
    names_array,
    stack_state,
)
from models_store.scvi_weights import LIBRARY_PRIOR
from models_store.totalvi import TOTALVI

PROTEINS = "protein_expression"
"""Where the proteins' counts are in the obsm of the cells."""


def total_state_dict(grafted: TOTALVI) -> dict[str, Tensor]:
    """The weights of a grafted network under scvi-tools' names.

    scvi-tools saves layers that a configuration never looks at; they are zero here.
    """
    found = dict(_state(grafted))
    for name, values in _state(_twin_with_every_layer(grafted)):
        if name not in LIBRARY_PRIOR:
            found.setdefault(name, torch.zeros_like(values))
    return {name: values.detach().cpu().clone() for name, values in found.items()}


def total_attributes(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    """What scvi-tools keeps beside the weights: options, registry, and that it is trained."""
    told = attributes(manifest, columns)
    kinds = manifest.genes.slices()
    genes = names_array(manifest.genes.ids[kinds["gene"]])
    proteins = list(manifest.genes.ids[kinds["protein"]])  # scvi-tools compares it with a list
    told["init_params_"] = _options(manifest)
    registry = told["registry_"]
    del registry["setup_args"]["labels_key"]
    registry["setup_args"] |= {
        "protein_expression_obsm_key": PROTEINS,
        "protein_names_uns_key": None,
        "panel_key": None,
    }
    fields = registry["field_registries"]
    fields["X"]["state_registry"] |= {"n_vars": len(genes), "column_names": genes}
    fields["X"]["summary_stats"]["n_vars"] = len(genes)
    state = {"column_names": proteins}
    fields["proteins"] = field(("obsm", PROTEINS), state, n_proteins=len(proteins))
    return told


def _options(manifest: Manifest) -> dict[str, Any]:
    a = manifest.architecture
    handed_on = {
        "n_hidden": a.n_hidden,
        "n_layers_encoder": a.n_layers,
        "n_layers_decoder": a.n_layers_decoder or a.n_layers,
        "dropout_rate_encoder": a.dropout_rate,
        "dropout_rate_decoder": a.decoder_dropout_rate,
        "use_observed_lib_size": a.library != "latent",
        "log_variational": a.log_variational,
        "encode_covariates": a.encode_covariates,
        "use_batch_norm": a.batch_norm,
        "use_layer_norm": a.layer_norm,
        "extra_decoder_kwargs": {"activation_function_bg": a.background},
    }
    named = {
        "n_latent": a.n_latent,
        "gene_dispersion": a.dispersion,
        "protein_dispersion": a.protein_dispersion,
        "gene_likelihood": a.likelihood,
        "latent_distribution": a.latent_distribution,
        # The weights tell the backgrounds; a prior that is fitted to the query's would be random.
        "empirical_protein_background_prior": False,
        "override_missing_proteins": False,
    }
    return {"kwargs": {"model_kwargs": handed_on}, "non_kwargs": named}


def _state(network: TOTALVI) -> Iterator[tuple[str, Tensor]]:
    modules = dict(network.named_modules())
    for ours, theirs in totalvi_names.STACKS.items():
        if isinstance(stack := modules.get(ours), FullyConnected):
            yield from stack_state(theirs, stack)
    for ours, theirs in totalvi_names.OUTPUTS.items():
        if isinstance(linear := modules.get(ours), ConditionalLinear):
            yield from conditional_state(f"{theirs}.fc_layers.Layer 0.0", linear)
    for ours, theirs in totalvi_names.HEADS.items():
        if isinstance(head := modules.get(ours), nn.Linear):
            yield f"{theirs}.weight", head.weight
            yield f"{theirs}.bias", head.bias
    yield from _tables(network)


def _tables(network: TOTALVI) -> Iterator[tuple[str, Tensor]]:
    a, modules = network.architecture, dict(network.named_modules())
    of_all = {"dispersion": a.dispersion == "gene"}
    of_all["proteins.dispersion"] = a.protein_dispersion == "protein"
    for ours, theirs in {**totalvi_names.DISPERSIONS, **totalvi_names.BACKGROUNDS}.items():
        table = modules[ours]
        assert isinstance(table, Dispersion)
        rows = torch.cat([table.reference, table.query])
        yield theirs, rows[0] if of_all.get(ours) else rows.T
    known, n_new = network.proteins.log_efficiency, len(network.proteins.background_mean.query)
    yield totalvi_names.EFFICIENCY[1], torch.cat([known, known.new_zeros(n_new, known.shape[1])]).T
    if network.library_is_latent:
        for name, column in zip(LIBRARY_PRIOR, network.library_prior.T, strict=True):
            yield name, column.unsqueeze(0)


def _twin_with_every_layer(grafted: TOTALVI) -> TOTALVI:
    """A network of the same sizes that has the layers of every likelihood and library."""
    first = grafted.decoder.genes.layers.linears[0]
    assert isinstance(first, ConditionalLinear)
    every = {"library": "latent", "likelihood": "zinb"}
    return TOTALVI(
        grafted.architecture.model_copy(update=every),
        n_categories=[len(rows.reference) + len(rows.query) for rows in first.covariate_rows()],
        n_continuous=grafted.n_continuous,
        n_labels=grafted.n_labels,
    )
