"""scvi-tools' MULTIVI as the yardstick: cells of three modalities, a reference, and its query."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from models_store.cells import Cells, Noise
from models_store.layers import ConditionalLinear, FullyConnected
from models_store.multivi import MULTIVI
from models_store.multivi_names import DISPERSIONS, HEADS, OUTPUTS, STACKS, TENSORS
from models_store.surgery import graft

from .convert import State, norms_and_heads, of_layers
from .departures import depart, drawn, load_new, new_columns
from .multivi_configurations import CONFIGURATIONS, Configuration
from .sides import Case, Side, codes_of, tensors_of

N_REFERENCE, N_QUERY = 200, 130


def simulate(configuration: Configuration, *, query: bool) -> Any:
    """Counts with batch effects; unpaired cells lack one modality or two, as zeros."""
    import anndata
    import mudata

    rng = np.random.default_rng(7 + query)
    n = N_QUERY if query else N_REFERENCE
    batches = configuration.query_batches if query else configuration.reference_batches
    names = [f"cell{i}" for i in range(n)]
    obs = pd.DataFrame({"batch": rng.choice(batches, n)}, index=names)
    if configuration.plates:
        obs["plate"] = rng.choice(("p1", "p9") if query else ("p0", "p1", "p2"), n)
    for i in range(configuration.n_continuous):
        obs[f"x{i}"] = rng.normal(size=n)
    modalities = {}
    for k, (modality, width) in enumerate(configuration.modalities.items()):
        scale = rng.lognormal(0, 1, width) * np.where(obs["batch"] == batches[0], 1.7, 1.0)[:, None]
        mean = (0.3 if modality == "atac" else 2.0) * scale * rng.lognormal(0, 0.5, (n, width))
        x = rng.poisson(mean).astype(np.float32)
        x[:, 0] += 1
        if not configuration.paired:
            x[k::7] = 0
            x[k + 3 :: 11] = 0
        var = pd.DataFrame(index=[f"{modality}{j}" for j in range(width)])
        modalities[modality] = anndata.AnnData(x, obs=obs[[]].copy(), var=var)
    if configuration.size_factors:
        for key, modality, low, high in (("size", "rna", 20, 90), ("depth", "atac", 0.1, 0.9)):
            counts = modalities[modality].X if modality in modalities else np.ones((n, 1))
            obs[key] = rng.uniform(low, high, n) * (counts.sum(1) > 0)
    made = mudata.MuData(modalities)
    made.obs = obs.copy()
    return made


def train_reference(configuration: Configuration) -> Any:
    """scvi-tools' reference, trained a little so that its running statistics mean something."""
    import scvi

    scvi.settings.seed = 0
    mdata, a = simulate(configuration, query=False), configuration.architecture
    layers = {"rna": "rna_layer", "atac": "atac_layer", "protein": "protein_layer"}
    scvi.model.MULTIVI.setup_mudata(
        mdata,
        batch_key="batch",
        categorical_covariate_keys=["plate"] if configuration.plates else None,
        continuous_covariate_keys=[f"x{i}" for i in range(configuration.n_continuous)] or None,
        size_factor_key=["size", "depth"] if configuration.size_factors else None,
        modalities={layers[name]: name for name in configuration.modalities},
    )
    model = scvi.model.MULTIVI(
        mdata,
        modality_weights=a.modality_weights,
        modality_penalty=a.modality_penalty,
        n_hidden=a.n_hidden,
        n_latent=a.n_latent,
        n_layers_encoder=a.n_layers,
        n_layers_decoder=a.n_layers_decoder or a.n_layers,
        dropout_rate=a.dropout_rate,
        region_factors=a.region_factors,
        gene_likelihood=a.likelihood,
        dispersion=a.dispersion,
        use_batch_norm=a.batch_norm,
        use_layer_norm=a.layer_norm,
        latent_distribution=a.latent_distribution,
        deeply_inject_covariates=a.deeply_inject_covariates,
        encode_covariates=a.encode_covariates,
        protein_dispersion=a.protein_dispersion,
    )
    model.train(
        max_epochs=6,
        batch_size=50,
        lr=3e-3,
        early_stopping=False,
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
    )
    with torch.no_grad():  # log libraries on both sides of the kink of their leaky ReLU
        middle = float(np.median(model.get_library_size_factors()["expression"]))
        model.module.l_encoder_expression.output[0].bias -= middle
    return model


@functools.cache
def build(name: str) -> Case:
    """Train the reference, do surgery on both sides, copy scvi-tools' new columns into ours."""
    import scvi

    configuration = CONFIGURATIONS[name]
    reference = train_reference(configuration)
    network = MULTIVI(
        configuration.architecture,
        n_categories=[len(configuration.reference_batches)] + [3] * configuration.plates,
        n_continuous=configuration.n_continuous,
    )
    network.load_state_dict(translate(network, reference.module.state_dict()))
    query = scvi.model.MULTIVI.load_query_data(
        simulate(configuration, query=True), reference, accelerator="cpu"
    )
    query.is_trained_ = True
    n_new = len(set(configuration.query_batches) - set(configuration.reference_batches))
    grafted = graft(network, [n_new] + [1] * configuration.plates)
    depart(query.module, linears(grafted))
    load_new(grafted, translate(grafted, query.module.state_dict()))
    sides = []
    for model, ours in ((reference, network.eval()), (query, grafted)):
        tensors = tensors_of(model)
        sides.append(Side(model, ours, tensors, cells_of(tensors)))
    return Case(configuration, sides[0], sides[1], trainable(query.module, grafted))


def cells_of(tensors: dict[str, Tensor]) -> Cells:
    """scvi-tools' minibatch as ours."""
    parts = [tensors[key].float() for key in ("X", "atac", "proteins") if key in tensors]
    continuous, factors = tensors.get("extra_continuous_covs"), tensors.get("size_factor")
    return Cells(torch.cat(parts, 1), codes_of(tensors), continuous, size_factor=factors)


def linears(network: MULTIVI) -> Iterator[tuple[str, str, ConditionalLinear]]:
    """Our path, scvi-tools' path and the layer, for each layer that may see covariates."""
    modules = dict(network.named_modules())
    for ours, theirs in STACKS.items():
        if isinstance(stack := modules.get(ours), FullyConnected):
            for i, linear in enumerate(stack.linears):
                assert isinstance(linear, ConditionalLinear)
                yield f"{ours}.linears.{i}", f"{theirs}.fc_layers.Layer {i}.0", linear
    for ours, theirs in OUTPUTS.items():
        if isinstance(linear := modules.get(ours), ConditionalLinear):
            yield ours, f"{theirs}.fc_layers.Layer 0.0", linear


def translate(network: MULTIVI, state: State) -> dict[str, Tensor]:
    """scvi-tools' tensors under our names, in aligned layout; weights and gradients alike."""
    names = network.state_dict()
    found = {"library_prior": names["library_prior"], **dict(of_layers(linears(network), state))}
    found |= norms_and_heads(network, state, STACKS, HEADS)
    for ours, theirs in DISPERSIONS.items():
        if f"{ours}.reference" in names:
            rows = state[theirs].reshape(len(state[theirs]), -1).T
            n, new = (len(names[f"{ours}.{which}"]) for which in ("reference", "query"))
            found |= {f"{ours}.reference": rows[:n], f"{ours}.query": rows[n : n + new]}
    same = {ours: state[theirs] for ours, theirs in TENSORS.items() if theirs in state}
    return found | {ours: values for ours, values in same.items() if ours in names}


def trainable(module: Any, grafted: MULTIVI) -> dict[str, Tensor]:
    masks = new_columns(module, linears(grafted))
    for table in grafted.batch_tables():
        masks["py_r"][:, len(table.reference) :] = 1
    return masks


@contextmanager
def fixed_noise(noise: Noise) -> Iterator[None]:
    """scvi-tools draws a z of each modality, which it does not use; then z, then the background."""
    background = noise.z[:, :0] if noise.background is None else noise.background
    draws = [torch.zeros_like(noise.z)] * 3 + [noise.z, background]

    with drawn(draws):
        yield
