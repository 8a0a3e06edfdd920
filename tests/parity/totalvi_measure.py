"""How far Cellgraft's totalVI is from scvi-tools', quantity by quantity."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor, nn

from models_store.cells import Noise, Posterior
from models_store.cvae import LN_SAMPLES
from models_store.layers import Block
from models_store.totalvi import TOTALVI

from .errors import Errors, error
from .measure import KL_WEIGHTS
from .sides import Case
from .steps import Both, five_steps, noise_for, one_gradient
from .totalvi_convert import translate
from .totalvi_oracle import TotalSide, build, fixed_noise


@functools.cache
def compare_reference(name: str) -> Errors:
    """The reference itself: forward quantities, and one gradient of all weights, twice."""
    case = build(name)
    side = case.reference
    errors = _forward(case, side)
    return errors | _gradient(side, training=False) | _gradient(side, training=True)


@functools.cache
def compare_query(name: str) -> Errors:
    """The grafted network: forward quantities, and five steps of the query's weights."""
    case = build(name)
    return _forward(case, case.query) | five_steps(BOTH, case, case.query.module)


def _their_loss(module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float) -> Any:
    with fixed_noise(noise):
        return module(tensors, loss_kwargs={"kl_weight": weight})


@torch.no_grad()
def _forward(case: Case, side: TotalSide) -> Errors:
    network, cells = side.network, side.cells
    noise = noise_for(network, len(cells.x), seed=1)
    terms = network.loss_terms(cells, noise)
    posterior = network.posterior(network.project(cells), cells.codes)
    errors: Errors = {}
    for weight in KL_WEIGHTS:
        inference, _, loss = _their_loss(side.module, side.tensors, noise, weight)
        errors[f"loss, w = {weight:g}"] = error(terms.loss(weight), loss.loss)
    kl, reconstruction = loss.kl_local, loss.reconstruction_loss
    return errors | {
        "posterior mean": error(posterior.m, inference["qz"].loc),
        "posterior variance": error(posterior.v, inference["qz"].scale ** 2),
        **_latent_error(side, posterior),
        "reconstruction": error(terms.reconstruction, reconstruction["reconst_loss_gene"]),
        "proteins": error(terms.proteins, reconstruction["reconst_loss_protein"]),
        "KL z": error(terms.kl_z, kl["kl_div_z"]),
        "KL library": error(terms.kl_library, kl["kl_div_l_gene"]),
        "KL background": error(terms.kl_background, kl["kl_div_back_pro"]),
        **_output_errors(case, side, posterior, noise),
    }


def _latent_error(side: TotalSide, posterior: Posterior) -> Errors:
    network, theirs = side.network, torch.as_tensor(side.latent)
    ours = network.latent(posterior)
    if network.architecture.latent_distribution == "normal":
        return {"latent": error(ours, theirs)}
    draws = (noise_for(network, len(ours), seed).z for seed in range(200))
    spread = torch.stack([network.sample(posterior, z) for z in draws]).std(0)
    standard_error = spread * (2 / LN_SAMPLES) ** 0.5
    return {"latent, in standard errors": float(((ours - theirs) / standard_error).abs().max())}


def _output_errors(case: Case, side: TotalSide, posterior: Posterior, noise: Noise) -> Errors:
    """Normalised expression and protein foreground, decoded into the first reference batch."""
    network, cells = side.network, side.cells
    batch = case.configuration.reference_batches[0]
    options = {"transform_batch": batch, "batch_size": len(cells.x)}
    with fixed_noise(noise):
        genes, proteins = side.model.get_normalized_expression(return_numpy=True, **options)
    with fixed_noise(noise):
        probability = side.model.get_protein_foreground_probability(return_numpy=True, **options)
    z = network.sample(posterior, noise.z)
    into = (torch.zeros(len(z), dtype=torch.int64), *cells.codes[1:])
    found = network.protein_foreground(z, into, cells.continuous, noise.background)
    as_of_batch = dataclasses.replace(cells, codes=into)
    shares = network.decoded("normalised_expression", z, as_of_batch)
    return {
        "normalised expression": error(shares, torch.as_tensor(genes)),
        "protein foreground": error(found.expression, torch.as_tensor(proteins)),
        "foreground probability": error(found.probability, torch.as_tensor(probability)),
    }


def _gradient(side: TotalSide, *, training: bool) -> Errors:
    module, network = copy.deepcopy(side.module), copy.deepcopy(side.network)
    for m in (module, network):
        m.train(training).requires_grad_(True)
    if not network.library_is_latent:
        _drop_nothing(module, network)
    return one_gradient(BOTH, side, module, network)


def _drop_nothing(module: Any, network: TOTALVI) -> None:
    """scvi-tools draws masks for a library encoder that it then does not look at."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for part in network.modules():
        if isinstance(part, Block):
            part.dropout_rate = 0.0


def _scalar(module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float) -> Tensor:
    return torch.as_tensor(_their_loss(module, tensors, noise, weight)[2].loss)


BOTH = Both(translate, _scalar)
