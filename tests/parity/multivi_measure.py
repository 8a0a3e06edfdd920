"""How far MULTIVI's numbers are from scvi-tools', quantity by quantity."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor

from models_store.cells import Noise

from .errors import Errors, beyond, error
from .measure import KL_WEIGHTS
from .multivi_oracle import build, fixed_noise, translate
from .sides import Side
from .steps import MINIBATCH, Both, five_steps, noise_for, one_gradient

LIMITS = {
    "posterior mean": 1e-5,
    "posterior variance": 1e-5,
    "latent": 1e-5,
    "library": 1e-4,  # near 0 on purpose, where it is a difference of larger numbers
    "depth": 1e-5,
    "reconstruction": 1e-5,
    "KL z": 1e-5,
    "penalty": 1e-5,
    "loss, w = 0": 1e-5,
    "loss, w = 0.3": 1e-5,
    "loss, w = 1": 1e-5,
    "accessibility": 1e-5,
    "accessibility in a reference batch": 1e-5,
    "normalised expression": 1e-5,
    "protein foreground": 1e-5,
    "protein foreground in a reference batch": 1e-5,
    "gradient": 1e-4,
    "gradient in training mode": 1e-4,
    "running statistics": 1e-5,
    "weights after 5 steps": 1e-4,
    "way of the weights": 3e-4,
    "frozen weights": 0.0,
}


def failures(errors: Errors) -> list[str]:
    """The quantities that are further off than they may be."""
    return beyond(LIMITS, errors)


@functools.cache
def compare_reference(name: str) -> Errors:
    """The reference itself: forward quantities, and one gradient of all weights, twice."""
    side = build(name).reference
    return _forward(side) | _gradient(side, training=False) | _gradient(side, training=True)


@functools.cache
def compare_query(name: str) -> Errors:
    """The grafted network: forward quantities, and five steps of the query's weights."""
    case = build(name)
    errors = _forward(case.query)
    case.query.network.mmd_weight = float(MINIBATCH)
    return errors | five_steps(BOTH, case, case.query.module)


def their_loss(
    module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float
) -> tuple[dict[str, Tensor], Any]:
    """What scvi-tools' encoders gave of a minibatch, and its LossOutput."""
    with fixed_noise(noise):
        inference, _, loss = module(tensors, loss_kwargs={"kl_weight": weight})
    return inference, loss


@torch.no_grad()
def _forward(side: Side) -> Errors:
    network, cells = side.network, side.cells
    noise = noise_for(network, len(cells.x), seed=1)
    network.mmd_weight = float(len(cells.x))  # there, of a minibatch's size
    made = network.encode(network.project(cells), cells.codes)
    terms = network.loss_terms(cells, noise)
    errors: Errors = {}
    for weight in KL_WEIGHTS:
        inference, loss = their_loss(side.module, side.tensors, noise, weight)
        errors[f"loss, w = {weight:g}"] = error(terms.loss(weight), loss.loss)
    # What `reconstruction_loss` keeps of a modality that is absent in all cells is one zero.
    reconstruction = sum(loss.reconstruction_loss.values())
    paired = torch.as_tensor(loss.kl_local["kl_divergence_paired"])
    penalty = terms.penalty
    if network.architecture.modality_penalty == "MMD":  # there, one number for all cells
        penalty = penalty.mean().expand_as(penalty)
    return errors | {
        "posterior mean": error(made.q_z.m, inference["qz_m"]),
        "posterior variance": error(made.q_z.v, inference["qz_v"]),
        "library": error(made.log_library, inference["libsize_expr"]),
        "depth": error(torch.sigmoid(made.depth), inference["libsize_acc"]),
        "reconstruction": error(terms.reconstruction, reconstruction),
        "KL z": error(terms.kl_z, loss.kl_local["kl_divergence_z"]),
        "penalty": error(penalty, paired.expand_as(penalty).to(penalty)),
        **_outputs(side),
    }


def _outputs(side: Side) -> Errors:
    """As the public methods give them; scvi-tools decodes at m, also where the latent is `ln`."""
    network, model = side.network, side.model
    m = network.posterior(network.project(side.cells), side.cells.codes).m
    errors: Errors = {}
    if network.architecture.latent_distribution == "normal":
        errors["latent"] = error(m, torch.as_tensor(model.get_latent_representation()))
    if network.n_continuous:  # scvi-tools decodes each cell at its own
        return errors
    codes = side.cells.codes
    into = (torch.zeros_like(codes[0]), *codes[1:])
    if network.region_decoder is not None:
        for where, there, batch in (("", codes, None), (" in a reference batch", into, "a")):
            theirs = model.get_normalized_accessibility(transform_batch=batch, return_numpy=True)
            ours = network.accessibility(m, there)
            errors[f"accessibility{where}"] = error(ours, torch.as_tensor(theirs))
    if network.gene_decoder is not None:
        theirs = model.get_normalized_expression(return_numpy=True)
        errors["normalised expression"] = error(
            network.gene_shares(m, codes), torch.as_tensor(theirs)
        )
    if network.protein_decoder is not None:
        for where, there, batch in (("", codes, None), (" in a reference batch", into, "a")):
            theirs = model.get_protein_foreground_probability(
                transform_batch=batch, return_numpy=True
            )
            ours = network.protein_foreground(m, there)
            errors[f"protein foreground{where}"] = error(ours, torch.as_tensor(theirs))
    return errors


def _gradient(side: Side, *, training: bool) -> Errors:
    module, network = copy.deepcopy(side.module), copy.deepcopy(side.network)
    for m in (module, network):
        m.train(training).requires_grad_(True)
    network.mmd_weight = float(MINIBATCH)
    return one_gradient(BOTH, side, module, network)


def _scalar(module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float) -> Tensor:
    return torch.as_tensor(their_loss(module, tensors, noise, weight)[1].loss)


BOTH = Both(translate, _scalar)
