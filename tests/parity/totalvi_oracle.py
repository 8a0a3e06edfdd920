"""scvi-tools' TOTALVI as the yardstick: simulated genes and proteins, a reference, a query.

scvi-tools is imported inside functions: it warns on import, and it takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from models_store.cells import Cells, Noise
from models_store.manifest import Architecture, Kind
from models_store.protein_panels import measured_proteins
from models_store.surgery import graft
from models_store.totalvi import TOTALVI

from .departures import depart, drawn, load_new, new_columns
from .sides import Case, Side, codes_of, latent_of, tensors_of
from .totalvi_convert import layers, translate

N_GENES, N_PROTEINS, N_HIDDEN, N_LATENT = 30, 6, 16, 4
N_REFERENCE, N_QUERY = 160, 90
Module = Any  # scvi.module.TOTALVAE


@dataclass(frozen=True)
class TotalConfiguration:
    """A reference of genes and proteins, and the query that is grafted onto it."""

    name: str
    architecture: Architecture
    reference_batches: tuple[str, ...] = ("a", "b")
    query_batches: tuple[str, ...] = ("c", "d")
    missing: dict[str, int] = field(default_factory=dict)
    """How many proteins, the first ones, a batch was not measured for."""
    panels: dict[str, str] = field(default_factory=dict)
    """The panel of each batch."""
    extra: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    n_continuous: int = 0
    kind: Kind = "totalvi"


def _architecture(**options: object) -> Architecture:
    sizes = {
        "n_genes": N_GENES,
        "n_proteins": N_PROTEINS,
        "n_hidden": N_HIDDEN,
        "n_latent": N_LATENT,
        "n_layers_decoder": 1,
        "decoder_dropout_rate": 0.2,
    }
    return Architecture.model_validate(sizes | options)


TOTALVI_CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        TotalConfiguration("TOTALVI: recommended", _architecture()),
        TotalConfiguration(
            "TOTALVI: scvi-tools' own defaults, proteins missing on both sides",
            _architecture(batch_norm="both", layer_norm="none"),
            missing={"b": 3, "c": N_PROTEINS, "d": 2},
        ),
        TotalConfiguration(
            "TOTALVI: panels, protein-batch dispersion, proteins missing",
            _architecture(protein_dispersion="protein-batch", n_panels=2),
            reference_batches=("a", "b", "e"),
            missing={"b": 2, "e": 2, "d": 4},
            panels={"a": "p0", "b": "p1", "e": "p1", "c": "q0", "d": "q1"},
        ),
        TotalConfiguration(
            "TOTALVI: latent library, zinb, gene-batch dispersion, two decoder layers",
            _architecture(
                library="latent", likelihood="zinb", dispersion="gene-batch", n_layers_decoder=2
            ),
        ),
        TotalConfiguration(
            "TOTALVI: exp background, genes alone encoded, size factor, zinb",
            _architecture(
                background="exp", encode_covariates=False, library="size_factor", likelihood="zinb"
            ),
        ),
        TotalConfiguration(
            "TOTALVI: extra and continuous covariates, logistic-normal latent",
            _architecture(latent_distribution="ln"),
            extra={"plate": (("p0", "p1", "p2"), ("p1", "p9"))},
            n_continuous=2,
        ),
        TotalConfiguration(
            "TOTALVI: one reference batch, batch norm in the encoder, no logarithm",
            _architecture(batch_norm="encoder", layer_norm="decoder", log_variational=False),
            reference_batches=("a",),
            missing={"c": 1},
        ),
        TotalConfiguration(
            "TOTALVI: cells of a reference batch, zinb, batch norm, protein-batch dispersion",
            # Dispersions by label: with them scvi-tools 1.4.2 fails at its first minibatch.
            _architecture(protein_dispersion="protein-batch", likelihood="zinb", batch_norm="both"),
            query_batches=("b", "c"),
        ),
    )
}


@dataclass(frozen=True)
class TotalSide(Side):
    """One of the two networks, with the latents that scvi-tools gave."""

    latent: np.ndarray


def simulate(configuration: TotalConfiguration, *, query: bool) -> Any:
    """Counts with batch effects, and proteins of background or foreground, at random."""
    import anndata

    rng = np.random.default_rng(11 + query)
    n = N_QUERY if query else N_REFERENCE
    batches = configuration.query_batches if query else configuration.reference_batches
    obs: dict[str, Any] = {"batch": rng.choice(batches, n), "size": rng.lognormal(0, 0.4, n)}
    for key, (here, there) in configuration.extra.items():
        obs[key] = rng.choice(there if query else here, n)
    for i in range(configuration.n_continuous):
        obs[f"x{i}"] = rng.normal(size=n)
    if configuration.panels:
        obs["panel"] = [configuration.panels[batch] for batch in obs["batch"]]
    scale = rng.lognormal(0, 1, N_GENES) * np.where(obs["batch"] == batches[0], 1, 1.7)[:, None]
    x = rng.poisson(4 * scale * rng.lognormal(0, 0.5, (n, N_GENES)) * obs["size"][:, None])
    x[:, 0] += 1  # no empty cell: there scvi-tools gives NaN
    fore = rng.random((n, N_PROTEINS)) < 0.4
    y = rng.poisson(rng.lognormal(1.5, 0.4, (n, N_PROTEINS)) * np.where(fore, 12, 1))
    for batch, missing in configuration.missing.items():
        y[obs["batch"] == batch, :missing] = 0
    table = pd.DataFrame(obs, index=[f"cell{i}" for i in range(n)])
    genes = pd.DataFrame(index=[f"GENE{i}" for i in range(N_GENES)])
    adata = anndata.AnnData(x.astype(np.float32), obs=table, var=genes)
    names = [f"protein{i}" for i in range(N_PROTEINS)]
    adata.obsm["proteins"] = pd.DataFrame(y.astype(np.float32), table.index, names)
    return adata


def train_reference(configuration: TotalConfiguration) -> Any:
    """scvi-tools' reference, trained a little so that its running statistics mean something."""
    import scvi

    scvi.settings.seed = 0
    adata, a = simulate(configuration, query=False), configuration.architecture
    scvi.model.TOTALVI.setup_anndata(
        adata,
        protein_expression_obsm_key="proteins",
        batch_key="batch",
        panel_key="panel" if configuration.panels else None,
        size_factor_key="size" if a.library == "size_factor" else None,
        categorical_covariate_keys=list(configuration.extra) or None,
        continuous_covariate_keys=[f"x{i}" for i in range(configuration.n_continuous)] or None,
    )
    model = scvi.model.TOTALVI(
        adata,
        n_latent=a.n_latent,
        gene_dispersion=a.dispersion,
        protein_dispersion=a.protein_dispersion,
        gene_likelihood=a.likelihood,
        latent_distribution=a.latent_distribution,
        n_hidden=a.n_hidden,
        n_layers_encoder=a.n_layers,
        n_layers_decoder=a.n_layers_decoder,
        dropout_rate_encoder=a.dropout_rate,
        dropout_rate_decoder=a.decoder_dropout_rate,
        use_observed_lib_size=a.library != "latent",
        log_variational=a.log_variational,
        encode_covariates=a.encode_covariates,
        use_batch_norm=a.batch_norm,
        use_layer_norm=a.layer_norm,
        extra_decoder_kwargs={"activation_function_bg": a.background},
    )
    model.train(
        max_epochs=6,
        batch_size=48,
        accelerator="cpu",
        early_stopping=False,
        reduce_lr_on_plateau=False,
        n_steps_kl_warmup=8,
        enable_progress_bar=False,
        logger=False,
    )
    return model


def _cells(configuration: TotalConfiguration, tensors: dict[str, Tensor]) -> Cells:
    """scvi-tools' minibatch as ours."""
    codes, size = codes_of(tensors), tensors.get("size_factor")
    panel = tensors["panel"].long().squeeze(1) if configuration.panels else None
    proteins = tensors["proteins"]
    return Cells(
        x=torch.cat([tensors["X"], proteins], dim=-1),
        codes=codes,
        continuous=tensors.get("extra_continuous_covs"),
        labels=tensors["labels"].long().squeeze(1),
        size_factor=None if size is None else size.squeeze(1),
        measured=measured_proteins(proteins, codes[0] if panel is None else panel),
        panel=panel,
    )


@functools.cache
def build(name: str) -> Case:
    """Train the reference, do surgery on both sides, copy scvi-tools' new columns into ours."""
    import scvi

    configuration = TOTALVI_CONFIGURATIONS[name]
    reference = train_reference(configuration)
    network = TOTALVI(
        configuration.architecture,
        n_categories=[
            len(configuration.reference_batches),
            *(len(values) for values, _ in configuration.extra.values()),
        ],
        n_continuous=configuration.n_continuous,
    )
    network.load_state_dict(translate(network, reference.module.state_dict()))
    query = scvi.model.TOTALVI.load_query_data(
        simulate(configuration, query=True), reference, accelerator="cpu"
    )
    query.is_trained_ = True  # else it refuses to encode before training
    tensors = tensors_of(reference), tensors_of(query)
    new = [set(configuration.query_batches) - set(configuration.reference_batches)]
    new += [set(there) - set(here) for here, there in configuration.extra.values()]
    grafted = graft(network, [len(values) for values in new])
    assert isinstance(grafted, TOTALVI)
    depart(query.module, layers(grafted))
    load_new(grafted, translate(grafted, query.module.state_dict()))
    sides = [
        TotalSide(model, net, t, _cells(configuration, t), latent_of(model))
        for model, net, t in zip(
            (reference, query), (network.eval(), grafted), tensors, strict=True
        )
    ]
    return Case(configuration, sides[0], sides[1], _trainable(query.module, grafted))


def _trainable(module: Module, grafted: TOTALVI) -> dict[str, Tensor]:
    masks = new_columns(module, layers(grafted))
    a, n_batches = grafted.architecture, grafted.n_categories[0]
    for theirs in ("background_pro_alpha", "background_pro_log_beta"):
        masks[theirs][:, a.n_panels or n_batches :] = 1
    if a.dispersion == "gene-batch":
        masks["px_r"][:, n_batches:] = 1
    if a.protein_dispersion == "protein-batch":
        masks["py_r"][:, n_batches:] = 1
    return masks


@contextmanager
def fixed_noise(noise: Noise) -> Iterator[None]:
    """scvi-tools' draws come from `noise`; it draws a library even where it is observed."""
    assert noise.background is not None
    library = noise.z.new_zeros(len(noise.z), 1) if noise.library is None else noise.library
    draws = [noise.z, library, noise.background]

    with drawn(draws):
        yield
