"""scvi-tools' state dicts under Cellgraft's names: weights and gradients alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from models_store.cvae import CVAE
from models_store.layers import CategoryRows, ConditionalLinear, FullyConnected
from models_store.peakvi import PEAKVI
from models_store.scanvi import SCANVI

State = Mapping[str, Tensor]

STACKS = {
    "z_encoder.layers": "z_encoder.encoder",
    "library_encoder.layers": "l_encoder.encoder",
    "decoder.layers": "decoder.px_decoder",
    "classifier.layers": "classifier.classifier.0",
    "encoder_z2_z1.layers": "encoder_z2_z1.encoder",
    "decoder_z1_z2.layers": "decoder_z1_z2.decoder",
}
"""Our stacks of conditional layers, and scvi-tools' FCLayers."""

PEAK_STACKS = {
    "z_encoder.layers": "z_encoder.encoder",
    "depth_encoder.layers": "d_encoder.px_decoder",
    "decoder.layers": "z_decoder.px_decoder",
}
"""Those of PEAKVI."""

HEADS = {
    "z_encoder.mean": "z_encoder.mean_encoder",
    "z_encoder.log_variance": "z_encoder.var_encoder",
    "library_encoder.mean": "l_encoder.mean_encoder",
    "library_encoder.log_variance": "l_encoder.var_encoder",
    "decoder.scale": "decoder.px_scale_decoder.0",
    "decoder.pi": "decoder.px_dropout_decoder",
    "decoder.log_theta": "decoder.px_r_decoder",
    "encoder_z2_z1.mean": "encoder_z2_z1.mean_encoder",
    "encoder_z2_z1.log_variance": "encoder_z2_z1.var_encoder",
    "decoder_z1_z2.mean": "decoder_z1_z2.mean_decoder",
    "decoder_z1_z2.log_variance": "decoder_z1_z2.var_decoder",
}
"""Our plain linear layers, and theirs."""

PEAK_HEADS = {
    "z_encoder.mean": "z_encoder.mean_encoder",
    "z_encoder.log_variance": "z_encoder.var_encoder",
    "depth_encoder.output": "d_encoder.output.0",
    "decoder.output": "z_decoder.output.0",
}


def _heads(network: CVAE) -> dict[str, str]:
    """With the classifier's output, which follows its hidden layers if it has any."""
    if isinstance(network, PEAKVI):
        return PEAK_HEADS
    position = 0 if network.architecture.linear_classifier else 1
    return HEADS | {"classifier.output": f"classifier.classifier.{position}"}


def _stacks(network: CVAE) -> dict[str, str]:
    return PEAK_STACKS if isinstance(network, PEAKVI) else STACKS


def stacks(network: CVAE) -> Iterator[tuple[str, str, FullyConnected]]:
    """Our path, scvi-tools' path and the stack, for each stack that the network has."""
    modules = dict(network.named_modules())
    for ours, theirs in _stacks(network).items():
        if ours in modules:
            stack = modules[ours]
            assert isinstance(stack, FullyConnected)
            yield ours, theirs, stack


def layers(network: CVAE) -> Iterator[tuple[str, str, ConditionalLinear]]:
    """Our path, scvi-tools' path and the layer, for each layer that may see covariates."""
    for ours, theirs, stack in stacks(network):
        for i, linear in enumerate(stack.linears):
            assert isinstance(linear, ConditionalLinear)
            yield f"{ours}.linears.{i}", f"{theirs}.fc_layers.Layer {i}.0", linear


def columns(linear: ConditionalLinear) -> Iterator[tuple[CategoryRows, slice, slice]]:
    """Where scvi-tools' wide weight keeps each table: its reference and its query columns.

    A covariate of one category in all has no column, as nothing tells its cells apart.
    """
    start = linear.W_x.shape[0]
    for table in linear.covariate_rows():
        n_reference, n_query = table.reference.shape[0], table.query.shape[0]
        if n_reference + n_query == 1:
            yield table, slice(start, start), slice(start, start)
            continue
        middle, end = start + n_reference, start + n_reference + n_query
        yield table, slice(start, middle), slice(middle, end)
        start = end


def translate(network: CVAE, state: State) -> dict[str, Tensor]:
    """scvi-tools' tensors under our names, for a network (reference or grafted) of equal sizes.

    Extra covariates must stand in aligned layout: each covariate's new columns in its own block.
    """
    found = dict(of_layers(layers(network), state))
    found |= norms_and_heads(network, state, _stacks(network), _heads(network))
    if isinstance(network, PEAKVI):
        if "region_factors" in state:
            found["region_factors"] = state["region_factors"]
        return found | {"library_prior": network.library_prior}
    if "px_r" in state:
        rows = state["px_r"].reshape(len(state["px_r"]), -1).T
        n_reference = len(network.dispersion.reference)
        found["dispersion.reference"] = rows[:n_reference]
        found["dispersion.query"] = rows[n_reference : n_reference + len(network.dispersion.query)]
    else:
        found["dispersion.reference"] = network.dispersion.reference.detach()
        found["dispersion.query"] = network.dispersion.query.detach()
    if "library_log_means" in state:
        prior = torch.cat([state["library_log_means"], state["library_log_vars"]]).T
        found["library_prior"] = prior
    else:
        found["library_prior"] = network.library_prior
    if isinstance(network, SCANVI):
        found["y_prior"] = state["y_prior"][0]
    return found


def of_layers(
    linears: Iterable[tuple[str, str, ConditionalLinear]], state: State
) -> Iterator[tuple[str, Tensor]]:
    """Of layers that may see covariates: wide weights taken apart into their tables."""
    for ours, theirs, linear in linears:
        weight = state[f"{theirs}.weight"]
        yield f"{ours}.W_x", weight[:, : linear.W_x.shape[0]].T
        yield f"{ours}.b", state[f"{theirs}.bias"]
        for k, (table, reference, query) in enumerate(columns(linear)):
            lone = reference.start == reference.stop
            rows = table.reference.detach() if lone else weight[:, reference].T
            yield f"{ours}.covariates.{k}.reference", rows
            yield f"{ours}.covariates.{k}.query", weight[:, query].T


def norms_and_heads(
    network: CVAE, state: State, stacks: Mapping[str, str], heads: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Of batch norms in these stacks, and of these plain linear layers: what the network has."""
    names = network.state_dict()
    for ours, theirs in stacks.items():
        for name in (name for name in names if name.startswith(f"{ours}.blocks.")):
            at, _, rest = name.removeprefix(f"{ours}.blocks.").partition(".batch_norm.")
            if (there := f"{theirs}.fc_layers.Layer {at}.1.{rest}") in state:
                yield name, state[there]
    for ours, theirs in heads.items():
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in names:
                yield f"{ours}.{kind}", state[f"{theirs}.{kind}"]
