"""scvi-tools' TOTALVI state dicts under Cellgraft's names: weights and gradients alike."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from models_store.coders import Dispersion
from models_store.layers import ConditionalLinear, FullyConnected
from models_store.totalvi import TOTALVI

from .convert import State, norms_and_heads, of_layers

STACKS = {
    "z_encoder.layers": "encoder.encoder",
    "library_encoder.layers": "encoder.l_gene_encoder",
    "decoder.genes.layers": "decoder.px_decoder",
    "decoder.background.layers": "decoder.py_back_decoder",
    "decoder.foreground.layers": "decoder.py_fore_decoder",
    "decoder.mixing.layers": "decoder.sigmoid_decoder",
}
OUTPUTS = {
    "decoder.genes.outputs.scale": "decoder.px_scale_decoder",
    "decoder.background.outputs.mean": "decoder.py_back_mean_log_alpha",
    "decoder.background.outputs.sd": "decoder.py_back_mean_log_beta",
    "decoder.foreground.outputs.scale": "decoder.py_fore_scale_decoder",
    "decoder.mixing.outputs.proteins": "decoder.py_background_decoder",
    "decoder.mixing.outputs.genes": "decoder.px_dropout_decoder_gene",
}
HEADS = {
    "z_encoder.mean": "encoder.z_mean_encoder",
    "z_encoder.log_variance": "encoder.z_var_encoder",
    "library_encoder.mean": "encoder.l_gene_mean_encoder",
    "library_encoder.log_variance": "encoder.l_gene_var_encoder",
}
TABLES = {
    "dispersion": "px_r",
    "proteins.dispersion": "py_r",
    "proteins.background_mean": "background_pro_alpha",
    "proteins.background_log_sd": "background_pro_log_beta",
}


def layers(network: TOTALVI) -> Iterator[tuple[str, str, ConditionalLinear]]:
    """Our path, scvi-tools' path and the layer, for each layer that may see covariates."""
    modules = dict(network.named_modules())
    for ours, theirs in STACKS.items():
        stack = modules.get(ours)
        if isinstance(stack, FullyConnected):
            for i, linear in enumerate(stack.linears):
                assert isinstance(linear, ConditionalLinear)
                yield f"{ours}.linears.{i}", f"{theirs}.fc_layers.Layer {i}.0", linear
    for ours, theirs in OUTPUTS.items():
        linear = modules.get(ours)
        if isinstance(linear, ConditionalLinear):
            yield ours, f"{theirs}.fc_layers.Layer 0.0", linear


def translate(network: TOTALVI, state: State) -> dict[str, Tensor]:
    """scvi-tools' tensors under our names, for a network of equal sizes in aligned layout."""
    found = dict(of_layers(layers(network), state))
    found |= norms_and_heads(network, state, STACKS, HEADS)
    for ours, theirs in TABLES.items():
        table = network.get_submodule(ours)
        assert isinstance(table, Dispersion)
        rows = state[theirs].reshape(len(state[theirs]), -1).T
        n_reference = len(table.reference)
        found[f"{ours}.reference"] = rows[:n_reference]
        found[f"{ours}.query"] = rows[n_reference : n_reference + len(table.query)]
    n_known = len(network.proteins.log_efficiency)
    found["proteins.log_efficiency"] = state["log_per_batch_efficiency"].T[:n_known]
    found["library_prior"] = network.library_prior
    if network.library_is_latent and "library_log_means" in state:
        parts = [state["library_log_means"].reshape(-1), state["library_log_vars"].reshape(-1)]
        found["library_prior"] = parts[0].new_zeros(len(parts[0]), 2)
        for i, part in enumerate(parts):
            found["library_prior"][:, i] = part
    return found
