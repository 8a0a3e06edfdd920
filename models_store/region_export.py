"""A query model of regions in scvi-tools' own terms: the way back of `region_options`."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from models_store.layers import FullyConnected
from models_store.manifest import Manifest
from models_store.peakvi import PEAKVI
from models_store.region_names import FACTORS, HEADS, STACKS
from models_store.scvi_export import QueryColumns, attributes, stack_state


def peak_state_dict(grafted: PEAKVI) -> dict[str, Tensor]:
    """The weights of a grafted PEAKVI under scvi-tools' names."""
    return {name: values.detach().cpu().clone() for name, values in _state(grafted)}


def _state(grafted: PEAKVI) -> Iterator[tuple[str, Tensor]]:
    modules = dict(grafted.named_modules())
    for ours, theirs in STACKS.items():
        if isinstance(stack := modules.get(ours), FullyConnected):
            yield from stack_state(theirs, stack)
    for ours, theirs in HEADS.items():
        if isinstance(head := modules.get(ours), nn.Linear):
            yield f"{theirs}.weight", head.weight
            yield f"{theirs}.bias", head.bias
    if grafted.region_factors is not None:
        yield FACTORS, grafted.region_factors


def region_attributes(manifest: Manifest, columns: QueryColumns) -> dict[str, Any]:
    """What scvi-tools keeps beside the weights: options, registry, and that it is trained."""
    told = attributes(manifest, columns)
    told["get_normalized_function_name_"] = "get_normalized_accessibility"
    told["init_params_"] = _options(manifest)
    if manifest.kind == "peakvi":
        registry = told["registry_"]
        del registry["setup_args"]["size_factor_key"]
        del registry["field_registries"]["size_factor"]
    return told


def _options(manifest: Manifest) -> dict[str, Any]:
    a = manifest.architecture
    both = {
        "n_hidden": a.n_hidden,
        "n_latent": a.n_latent,
        "dropout_rate": a.dropout_rate,
        "latent_distribution": a.latent_distribution,
    }
    covariates = {
        "encode_covariates": a.encode_covariates,
        "deeply_inject_covariates": a.deeply_inject_covariates,
    }
    if manifest.kind == "peakvi":
        own = {
            "n_layers_encoder": a.n_layers,
            "n_layers_decoder": a.n_layers_decoder or a.n_layers,
            "model_depth": a.model_depth,
            "region_factors": a.region_factors,
            "use_batch_norm": a.batch_norm,
            "use_layer_norm": a.layer_norm,
        }
        return {"kwargs": {"model_kwargs": {}}, "non_kwargs": both | covariates | own}
    handed_on = covariates | {
        "log_variational": a.log_variational,
        "use_observed_lib_size": a.library != "latent",
    }
    return {"kwargs": {"model_kwargs": handed_on}, "non_kwargs": both | {"n_layers": a.n_layers}}
