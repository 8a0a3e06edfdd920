"""scvi-tools as the yardstick: simulated cells, a trained reference, a query after surgery.

scvi-tools is imported inside functions: it warns on import, and it takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from models_store.cells import Cells, Noise
from models_store.cvae import CVAE
from models_store.kinds import NETWORKS
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI
from models_store.surgery import graft

from .configurations import CONFIGURATIONS, N_GENES, Configuration
from .convert import layers, translate
from .departures import depart, drawn, load_new, new_columns
from .sides import Case, Side, codes_of, latent_of, tensors_of

Module = Any  # scvi.module.VAE
Adata = Any
LABELS = ("B cell", "NK cell", "T cell")
UNLABELLED = "unknown"
N_REFERENCE, N_QUERY = 240, 150


@dataclass(frozen=True)
class ScviSide(Side):
    """What scvi-tools' public methods gave besides."""

    latent: np.ndarray
    probabilities: np.ndarray | None
    """What SCANVI's `predict` gave of each label."""
    accessibility: np.ndarray | None
    """What `get_normalized_accessibility` gave at the mean of z, of a kind of regions."""


def simulate(configuration: Configuration, *, query: bool) -> Adata:
    """Over-dispersed counts (or positive continuous values) with batch effects, at random."""
    import anndata

    rng = np.random.default_rng(7 + query)
    n_cells = N_QUERY if query else N_REFERENCE
    batches = configuration.query_batches if query else configuration.reference_batches
    obs: dict[str, Any] = {"batch": rng.choice(batches, n_cells)}
    for key, (reference_values, query_values) in configuration.extra.items():
        obs[key] = rng.choice(query_values if query else reference_values, n_cells)
    unlabelled = query or configuration.kind == "scanvi"
    obs["cell_type"] = rng.choice((*LABELS, UNLABELLED) if unlabelled else LABELS, n_cells)
    obs["size"] = rng.lognormal(0, 0.4, n_cells)
    for i in range(configuration.n_continuous):
        obs[f"x{i}"] = rng.normal(size=n_cells)
    scale = (
        rng.lognormal(0, 1, N_GENES) * np.array([1.0, 1.7])[(obs["batch"] == batches[0]) * 1, None]
    )
    mean = 4 * scale * rng.lognormal(0, 0.5, (n_cells, N_GENES)) * obs["size"][:, None]
    x = rng.poisson(mean).astype(np.float32)
    x[:, 0] += 1  # no empty cell: there scvi-tools gives NaN
    if configuration.architecture.likelihood == "normal":
        x = np.log1p(x) + rng.uniform(0.01, 0.1, x.shape).astype(np.float32)
    names = [f"cell{i}" for i in range(n_cells)]
    return anndata.AnnData(x, obs=pd.DataFrame(obs, index=names))


def _train_reference(configuration: Configuration) -> Any:
    """scvi-tools' reference, trained a little so that its running statistics mean something."""
    import scvi

    scvi.settings.seed = 0
    adata, a = simulate(configuration, query=False), configuration.architecture
    labelled = configuration.kind == "scanvi"
    kind = _kind(configuration)
    peaks = configuration.kind == "peakvi"
    kind.setup_anndata(
        adata,
        batch_key="batch",
        labels_key=configuration.label_key,
        **({"unlabeled_category": UNLABELLED} if labelled else {}),
        **({} if peaks else {"size_factor_key": "size" if a.library == "size_factor" else None}),
        categorical_covariate_keys=list(configuration.extra) or None,
        continuous_covariate_keys=[f"x{i}" for i in range(configuration.n_continuous)] or None,
    )
    model = kind(adata, **_options(configuration))
    trained = {"lr": 5e-3, "early_stopping": False}
    model.train(
        max_epochs=8,
        batch_size=48,
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
        **(trained if configuration.of_regions else {"plan_kwargs": {"lr": 5e-3}}),
    )
    return model


def _options(configuration: Configuration) -> dict[str, Any]:
    """What scvi-tools' class is made with."""
    a, kind = configuration.architecture, configuration.kind
    options: dict[str, Any] = {
        "n_hidden": a.n_hidden,
        "n_latent": a.n_latent,
        "dropout_rate": a.dropout_rate,
        "latent_distribution": a.latent_distribution,
        "encode_covariates": a.encode_covariates,
        "deeply_inject_covariates": a.deeply_inject_covariates,
    }
    if kind == "peakvi":
        return options | {
            "n_layers_encoder": a.n_layers,
            "n_layers_decoder": a.n_layers_decoder or a.n_layers,
            "model_depth": a.model_depth,
            "region_factors": a.region_factors,
            "use_batch_norm": a.batch_norm,
            "use_layer_norm": a.layer_norm,
        }
    options |= {"n_layers": a.n_layers}
    if kind == "poissonvi":
        return options
    if kind == "scanvi":
        options |= {"linear_classifier": a.linear_classifier}
    return options | {
        "dispersion": a.dispersion,
        "gene_likelihood": a.likelihood,
        "use_observed_lib_size": a.library != "latent",
        "log_variational": a.log_variational,
        "use_batch_norm": a.batch_norm,
        "use_layer_norm": a.layer_norm,
    }


def _kind(configuration: Configuration) -> Any:
    """scvi-tools' class of models."""
    import scvi

    if configuration.kind == "poissonvi":
        return scvi.external.POISSONVI
    return getattr(scvi.model, configuration.kind.upper())


def _cells(configuration: Configuration, tensors: dict[str, Tensor]) -> Cells:
    """scvi-tools' minibatch as ours."""
    size = tensors.get("size_factor")
    return Cells(
        x=tensors["X"],
        codes=codes_of(tensors),
        continuous=tensors.get("extra_continuous_covs"),
        labels=tensors["labels"].long().squeeze(1) if configuration.label_key else None,
        size_factor=None if size is None else size.squeeze(1),
    )


@functools.cache
def build(name: str) -> Case:
    """Train the reference, do surgery on both sides, copy scvi-tools' new columns into ours."""
    configuration = CONFIGURATIONS[name]
    reference = _train_reference(configuration)
    n_categories = [len(configuration.reference_batches)]
    n_categories += [len(values) for values, _ in configuration.extra.values()]
    network = NETWORKS[configuration.kind](
        configuration.architecture,
        n_categories=n_categories,
        n_continuous=configuration.n_continuous,
        n_labels=len(LABELS) if configuration.label_key else 1,
    )
    network.load_state_dict(translate(network, reference.module.state_dict()))
    query = _kind(configuration).load_query_data(
        simulate(configuration, query=True), reference, accelerator="cpu"
    )
    query.is_trained_ = True  # else it refuses to encode before training
    tensors = tensors_of(reference), tensors_of(query)
    new = [set(configuration.query_batches) - set(configuration.reference_batches)]
    new += [set(there) - set(here) for here, there in configuration.extra.values()]
    grafted = graft(network, [len(values) for values in new])
    _depart(query.module, grafted)
    load_new(grafted, translate(grafted, query.module.state_dict()))
    sides = [
        ScviSide(
            model,
            net,
            t,
            _cells(configuration, t),
            latent_of(model),
            _predicted(model),
            _accessibility(model) if configuration.of_regions else None,
        )
        for model, net, t in zip(
            (reference, query), (network.eval(), grafted), tensors, strict=True
        )
    ]
    return Case(configuration, sides[0], sides[1], _trainable(query.module, grafted))


def _predicted(model: Any) -> np.ndarray | None:
    return model.predict(soft=True).to_numpy() if hasattr(model, "predict") else None


def _accessibility(model: Any) -> np.ndarray:
    """Without noise, so at the mean. Of POISSONVI it leaves a bias behind that learns nothing."""
    zeros = mock.patch(
        "torch.distributions.normal._standard_normal", lambda shape, **_: torch.zeros(shape)
    )
    with zeros:
        found = np.asarray(model.get_normalized_accessibility(return_numpy=True))
    if hasattr(model.module, "decoder"):
        output = model.module.decoder.px_scale_decoder[-2]
        output.bias = torch.nn.Parameter(
            output.bias.detach().clone(), requires_grad=output.weight.requires_grad
        )
    return found


@torch.no_grad()
def _depart(module: Module, grafted: CVAE) -> None:
    """Give scvi-tools' query network what Cellgraft does differently on purpose.

    Extra covariates: new columns into their own covariate's block. A lone reference category:
    a contribution of zero. A cell of unknown label: the mean dispersion.
    """
    depart(module, layers(grafted))
    if grafted.architecture.dispersion == "gene-label":
        n_labels = len(grafted.dispersion.reference)
        module.px_r[:, n_labels:] = module.px_r[:, :n_labels].mean(1, keepdim=True)


def _trainable(module: Module, grafted: CVAE) -> dict[str, Tensor]:
    masks = new_columns(module, layers(grafted))
    if isinstance(grafted, SCVI) and grafted.architecture.dispersion == "gene-batch":
        masks["px_r"][:, len(grafted.dispersion.reference) :] = 1
    return masks


def labelled_cells(side: ScviSide, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The minibatch of SCANVI's second loader: those of the cells that have a label."""
    if not isinstance(side.network, SCANVI):
        return None
    known = tensors["labels"].squeeze(1) < side.network.n_labels
    return {name: t[known] for name, t in tensors.items()}


@contextmanager
def fixed_noise(noise: Noise, n_labelled: int = 0) -> Iterator[None]:
    """scvi-tools' reparameterised draws come from `noise`: z, the library's, and SCANVI's.

    For its labelled cells it draws a z that it does not use.
    """
    draws = [noise.z] if noise.library is None else [noise.z, noise.library]
    if noise.z2 is not None:
        draws += [noise.z2.flatten(0, 1), noise.z.new_zeros(n_labelled, noise.z.shape[1])]

    with drawn(draws):
        yield
