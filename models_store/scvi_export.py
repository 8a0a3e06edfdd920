"""A query model in scvi-tools' own terms: state dict and registry, as scvi-tools 1.4.2 saves them.

The way back of `scvi_weights`: tables of rows become columns of the wide matrix again, those of the
query's categories after the reference's, each within its covariate's own block. That is where a
model that scvi-tools makes afresh has them (its own surgery appends all of them at the end, which
misplaces those of extra covariates).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models_store.kinds import NETWORKS
from models_store.layers import CategoryRows, ConditionalLinear, FullyConnected
from models_store.manifest import Kind, Manifest
from models_store.scvi import SCVI
from models_store.scvi_weights import KINDS, LIBRARY_PRIOR, TABLES, head_name

SCVI_TOOLS = "1.4.2"
UNKNOWN_LABEL = "unknown"
NO_MODEL_ARGUMENT = ("latent_distribution",)
"""Options that SCVI takes by name, and SCANVI hands on."""


@dataclass(frozen=True)
class QueryColumns:
    """The obs columns that the exported model reads, and the categories it knows."""

    n_cells: int
    batch: str
    labels: str | None
    covariates: tuple[str, ...]
    continuous: tuple[str, ...]
    size_factor: str | None
    categories: tuple[tuple[str, ...], ...]
    """Of the batch, then of each extra covariate; the query's follow the reference's."""
    depth: str | None = None
    """Of MULTIVI, beside the size factor."""


def state_dict(grafted: SCVI, kind: Kind) -> dict[str, Tensor]:
    """The weights of a grafted network under scvi-tools' names.

    scvi-tools saves layers that a configuration never looks at; they are zero here.
    """
    found = dict(_state(grafted, kind))
    unused = dict(_state(_twin_with_every_layer(grafted, kind), kind))
    for name, values in unused.items():
        if name not in found and name not in (*LIBRARY_PRIOR, "px_r"):
            found[name] = torch.zeros_like(values)
    n_genes, n_hidden = grafted.decoder.scale.weight.shape
    found.setdefault("decoder.px_r_decoder.weight", torch.zeros(n_genes, n_hidden))
    found.setdefault("decoder.px_r_decoder.bias", torch.zeros(n_genes))
    return {name: values.detach().cpu().clone() for name, values in found.items()}


def attributes(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    """What scvi-tools keeps beside the weights: options, registry, and that it is trained."""
    model = _class_name(manifest.kind)
    told: dict[str, Any] = {
        "is_trained_": True,
        "init_params_": _options(manifest),
        "registry_": {
            "scvi_version": SCVI_TOOLS,
            "model_name": model,
            "setup_method_name": "setup_anndata",
            "setup_args": _setup(manifest, columns),
            "field_registries": _fields(manifest, columns),
        },
        **dict.fromkeys(
            ("history_", "train_indices_", "test_indices_", "validation_indices_"), None
        ),
        "run_id_": "",
        "run_name_": f"{manifest.name}@{manifest.version}",
        "get_normalized_function_name_": "get_normalized_expression",
    }
    if manifest.kind == "scanvi":
        told["unlabeled_category_"] = unlabeled(manifest)
        told["labels_"] = np.full(columns.n_cells, unlabeled(manifest), dtype=object)
    return told


def label_names(manifest: Manifest) -> tuple[str, ...]:
    """The labels that the exported model knows, one for cells without a label at the end."""
    names = manifest.labels[0].categories if manifest.labels else ()
    return (*names, unlabeled(manifest))


def unlabeled(manifest: Manifest) -> str:
    """What a cell without a label is called: the reference's word, or one that is no label."""
    if manifest.unlabeled_category is not None:
        return manifest.unlabeled_category
    name, taken = UNKNOWN_LABEL, set(manifest.labels[0].categories if manifest.labels else ())
    while name in taken:
        name += "_"
    return name


def looks_at_labels(manifest: Manifest) -> bool:
    """Whether the network reads the label of a cell."""
    return manifest.kind == "scanvi" or manifest.architecture.dispersion_by_label


def _state(network: SCVI, kind: Kind) -> Iterator[tuple[str, Tensor]]:
    stacks, heads = TABLES[kind]
    modules = dict(network.named_modules())
    for ours, theirs in stacks.items():
        if isinstance(stack := modules.get(ours), FullyConnected):
            yield from stack_state(theirs, stack)
    for ours, theirs in heads.items():
        if isinstance(head := modules.get(ours), nn.Linear):
            name = head_name(theirs, network)
            yield f"{name}.weight", head.weight
            yield f"{name}.bias", head.bias
    yield from _dispersion(network)
    if network.library_encoder is not None:
        for name, column in zip(LIBRARY_PRIOR, network.library_prior.T, strict=True):
            yield name, column.unsqueeze(0)
    if isinstance(prior := getattr(network, "y_prior", None), Tensor):
        yield "y_prior", prior.unsqueeze(0)


def stack_state(theirs: str, stack: FullyConnected) -> Iterator[tuple[str, Tensor]]:
    """Hidden layers and their norms under scvi-tools' names."""
    for i, (linear, block) in enumerate(zip(stack.linears, stack.blocks, strict=True)):
        assert isinstance(linear, ConditionalLinear)
        layer = f"{theirs}.fc_layers.Layer {i}"
        yield from conditional_state(f"{layer}.0", linear)
        for name, values in (*block.named_parameters(), *block.named_buffers()):
            yield f"{layer}.1.{name.removeprefix('batch_norm.')}", values


def conditional_state(theirs: str, linear: ConditionalLinear) -> Iterator[tuple[str, Tensor]]:
    """A layer that may see covariates, as one wide matrix."""
    blocks = [linear.W_x.T, *(_columns(table) for table in linear.covariate_rows())]
    yield f"{theirs}.weight", torch.cat(blocks, dim=1)
    yield f"{theirs}.bias", linear.b


def _columns(table: CategoryRows) -> Tensor:
    """A table as columns; a lone category has none."""
    rows = torch.cat([table.reference, table.query])
    return rows.T if len(rows) > 1 else rows.T[:, :0]


def _dispersion(network: SCVI) -> Iterator[tuple[str, Tensor]]:
    rows = torch.cat([network.dispersion.reference, network.dispersion.query])
    if network.architecture.dispersion == "gene":
        yield "px_r", rows[0]
    elif network.architecture.dispersion == "gene-label":
        # Cells without a label have the mean of all, here and there.
        yield "px_r", torch.cat([rows, rows.mean(0, keepdim=True)]).T
    elif len(rows):
        yield "px_r", rows.T


def _twin_with_every_layer(grafted: SCVI, kind: Kind) -> SCVI:
    """A network of the same sizes that has the layers of every likelihood and library."""
    first, a = grafted.decoder.layers.linears[0], grafted.architecture
    assert isinstance(first, ConditionalLinear)
    every = a.model_copy(update={"library": "latent", "likelihood": "zinb"})
    twin = NETWORKS[kind](
        every,
        n_categories=[len(rows.reference) + len(rows.query) for rows in first.covariate_rows()],
        n_continuous=grafted.n_continuous,
        n_labels=grafted.n_labels,
    )
    assert isinstance(twin, SCVI)
    return twin


def _class_name(kind: Kind) -> str:
    return next(name for name, of in KINDS.items() if of == kind)


def _options(manifest: Manifest) -> dict[str, Any]:
    a = manifest.architecture
    named: dict[str, Any] = {
        "n_hidden": a.n_hidden,
        "n_latent": a.n_latent,
        "n_layers": a.n_layers,
        "dropout_rate": a.dropout_rate,
        "dispersion": a.dispersion,
        "gene_likelihood": a.likelihood,
        "use_observed_lib_size": a.library != "latent",
        "latent_distribution": a.latent_distribution,
    }
    handed_on = {
        "log_variational": a.log_variational,
        "encode_covariates": a.encode_covariates,
        "deeply_inject_covariates": a.deeply_inject_covariates,
        "use_batch_norm": a.batch_norm,
        "use_layer_norm": a.layer_norm,
    }
    if manifest.kind == "scvi":
        return {"kwargs": {"kwargs": handed_on}, "non_kwargs": named}
    handed_on |= {name: named.pop(name) for name in NO_MODEL_ARGUMENT}
    named["linear_classifier"] = a.linear_classifier
    return {"kwargs": {"model_kwargs": handed_on}, "non_kwargs": named}


def _setup(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    told: dict[str, Any] = {
        "layer": None,
        "batch_key": columns.batch,
        "labels_key": columns.labels,
        "size_factor_key": columns.size_factor,
        "categorical_covariate_keys": list(columns.covariates) or None,
        "continuous_covariate_keys": list(columns.continuous) or None,
    }
    if manifest.kind == "scanvi":
        told |= {"unlabeled_category": unlabeled(manifest), "use_minified": True}
    return told


def _fields(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    genes, batch = names_array(manifest.genes.ids), columns.categories[0]
    fields = {
        "X": field(
            ("X", None),
            {"n_obs": columns.n_cells, "n_vars": len(genes), "column_names": genes},
            n_cells=columns.n_cells,
            n_vars=len(genes),
        ),
        "batch": field(
            ("obs", "_scvi_batch"),
            {"categorical_mapping": names_array(batch), "original_key": columns.batch},
            n_batch=len(batch),
        ),
        "labels": _labels(manifest, columns),
        "size_factor": field(("obs", columns.size_factor)) if columns.size_factor else field(),
        "extra_categorical_covs": field(n_extra_categorical_covs=0),
        "extra_continuous_covs": field(n_extra_continuous_covs=0),
    }
    if columns.covariates:
        fields["extra_categorical_covs"] = field(
            ("obsm", "_scvi_extra_categorical_covs"),
            {
                "mappings": {
                    key: names_array(names)
                    for key, names in zip(columns.covariates, columns.categories[1:], strict=True)
                },
                "field_keys": list(columns.covariates),
                "n_cats_per_key": [len(names) for names in columns.categories[1:]],
            },
            n_extra_categorical_covs=len(columns.covariates),
        )
    if columns.continuous:
        fields["extra_continuous_covs"] = field(
            ("obsm", "_scvi_extra_continuous_covs"),
            {"columns": names_array(columns.continuous)},
            n_extra_continuous_covs=len(columns.continuous),
        )
    return fields


def _labels(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    if columns.labels is None:
        mapping = {"categorical_mapping": np.array([0]), "original_key": "_scvi_labels"}
        return field(("obs", "_scvi_labels"), mapping, n_labels=1)
    names = label_names(manifest)
    state: dict[str, Any] = {
        "categorical_mapping": names_array(names),
        "original_key": columns.labels,
    }
    if manifest.kind == "scanvi":
        state["unlabeled_category"] = unlabeled(manifest)
    return field(("obs", "_scvi_labels"), state, n_labels=len(names))


def field(
    where: tuple[str, str | None] | None = None,
    state: Mapping[str, Any] | None = None,
    **statistics: int,
) -> dict[str, Any]:
    """One field of a registry: where it is, its state, and how many there are of what."""
    place = {} if where is None else {"attr_name": where[0], "attr_key": where[1]}
    return {
        "data_registry": place,
        "state_registry": dict(state or {}),
        "summary_stats": statistics,
    }


def names_array(values: Sequence[str]) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Names as scvi-tools keeps them."""
    return np.array(list(values), dtype=object)
