"""How far Cellgraft's numbers are from scvi-tools', quantity by quantity."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor

from models_store.cells import Cells, Noise, Posterior, select_cells
from models_store.cvae import CVAE, LN_SAMPLES, LossTerms
from models_store.peakvi import PEAKVI
from models_store.scanvi import SCANVI, LabelledLossTerms

from .convert import translate
from .errors import Errors, beyond, error
from .oracle import ScviSide, build, fixed_noise, labelled_cells
from .steps import MINIBATCH, Both, five_steps, noise_for, one_gradient

KL_WEIGHTS = (0.0, 0.3, 1.0)

LIMITS = {
    "posterior mean": 1e-5,
    "posterior variance": 1e-5,
    "latent": 1e-5,
    "latent, in standard errors": 6.0,
    "reconstruction": 1e-5,
    "proteins": 1e-5,
    "KL z": 1e-5,
    "KL library": 1e-5,
    "KL background": 1e-5,
    "normalised expression": 1e-5,
    "protein foreground": 1e-5,
    "foreground probability": 1e-5,
    "cross-entropy": 1e-5,
    "label probabilities": 1e-5,
    "accessibility": 1e-5,
    "loss, w = 0": 1e-5,
    "loss, w = 0.3": 1e-5,
    "loss, w = 1": 1e-5,
    "gradient": 1e-4,
    "gradient in training mode": 1e-4,
    "running statistics": 1e-5,
    "weights after 5 steps": 1e-4,
    "way of the weights": 3e-4,
    "frozen weights": 0.0,
}
"""What each error may be. The latent of `ln` is a mean of 5,000 draws, which are others here than
in scvi-tools. The way is weights after minus weights before; frozen means equal in every bit."""


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
    steps = five_steps(_both(case.query), case, case.query.module)
    return _forward(case.query) | steps


def their_loss(
    side: ScviSide, module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float
) -> Any:
    """scvi-tools' posterior of a minibatch, its LossOutput, and its loss as a mean over cells."""
    options: dict[str, Any] = {"kl_weight": weight}
    labelled = labelled_cells(side, tensors)
    if labelled is not None:
        options |= {"labelled_tensors": labelled, "classification_ratio": 50}
    with fixed_noise(noise, 0 if labelled is None else len(labelled["X"])):
        inference, _, loss = module(tensors, loss_kwargs=options)
    scale = len(tensors["X"]) ** 2 if isinstance(side.network, PEAKVI) else 1
    return inference["qz"], loss, loss.loss / scale


def our_weight(network: CVAE, n_cells: int, weight: float) -> float:
    """The KL weight that means to our loss in training what `weight` means to theirs.

    PEAKVI's loss is B times the sum of all reconstructions plus w times that of all KLs: over B²,
    the mean reconstruction plus w / B times the mean KL.
    """
    return weight / n_cells / network.kl_share if isinstance(network, PEAKVI) else weight


@torch.no_grad()
def _forward(side: ScviSide) -> Errors:
    network, cells = side.network, side.cells
    noise = noise_for(network, len(cells.x), seed=1)
    terms = network.loss_terms(cells, noise)
    posterior = network.posterior(network.project(cells), cells.codes)
    errors: Errors = {}
    for weight in KL_WEIGHTS:
        q, loss, mean = their_loss(side, side.module, side.tensors, noise, weight)
        ours = terms.loss(our_weight(network, len(cells.x), weight) * network.kl_share)
        errors[f"loss, w = {weight:g}"] = error(ours, mean)
    (reconstruction,) = loss.reconstruction_loss.values()
    return errors | {
        "posterior mean": error(posterior.m, q.loc),
        "posterior variance": error(posterior.v, q.scale**2),
        **_latent_error(side, posterior),
        "reconstruction": error(terms.reconstruction, reconstruction),
        **_kl_errors(terms, loss),
        **_label_errors(side, posterior),
        **_accessibility_errors(side, posterior),
    }


def _kl_errors(terms: LossTerms, loss: Any) -> Errors:
    if isinstance(terms, LabelledLossTerms):  # there, one number for all KLs
        (together,) = loss.kl_local.values()
        return {
            "KL z": error(terms.kl_z + terms.kl_library, together),
            "cross-entropy": error(terms.classification, loss.classification_loss),
        }
    if len(loss.kl_local) == 1:  # PEAKVI
        (of_z,) = loss.kl_local.values()
        return {"KL z": error(terms.kl_z, of_z)}
    return {
        "KL z": error(terms.kl_z, loss.kl_local["kl_divergence_z"]),
        "KL library": error(terms.kl_library, loss.kl_local["kl_divergence_l"]),
    }


def _label_errors(side: ScviSide, posterior: Posterior) -> Errors:
    if not isinstance(side.network, SCANVI):
        return {}
    ours = side.network.label_probabilities(posterior.m)
    return {"label probabilities": error(ours, torch.as_tensor(side.probabilities))}


def _accessibility_errors(side: ScviSide, posterior: Posterior) -> Errors:
    network = side.network
    if side.accessibility is None:
        return {}
    at_mean = "accessibility" in network.decoded_at_mean
    z = posterior.m if at_mean else network.sample(posterior, torch.zeros_like(posterior.m))
    ours = network.decoded("accessibility", z, side.cells)
    return {"accessibility": error(ours, torch.as_tensor(side.accessibility))}


def _latent_error(side: ScviSide, posterior: Posterior) -> Errors:
    network = side.network
    ours, theirs = network.latent(posterior), torch.as_tensor(side.latent)
    if network.architecture.latent_distribution == "normal":
        return {"latent": error(ours, theirs)}
    noise = (noise_for(network, len(ours), seed).z for seed in range(500))
    spread = torch.stack([network.sample(posterior, z) for z in noise]).std(0)
    standard_error = spread * (2 / LN_SAMPLES) ** 0.5  # of the difference of two such means
    return {"latent, in standard errors": float(((ours - theirs) / standard_error).abs().max())}


def _gradient(side: ScviSide, *, training: bool) -> Errors:
    module, network = copy.deepcopy(side.module), copy.deepcopy(side.network)
    for m in (module, network):
        m.train(training).requires_grad_(True)
    return one_gradient(_both(side), side, module, network, labelled=_labelled)


def _both(side: ScviSide) -> Both:
    return Both(
        translate,
        lambda module, tensors, noise, weight: their_loss(side, module, tensors, noise, weight)[2],
        lambda network, weight: our_weight(network, MINIBATCH, weight),
    )


def _labelled(side: ScviSide, cells: Cells) -> Cells | None:
    """As a minibatch of its own, which in training mode has its own dropout and statistics."""
    if not isinstance(side.network, SCANVI):
        return None
    assert cells.labels is not None
    return select_cells(cells, torch.nonzero(cells.labels < side.network.n_labels).squeeze(1))
