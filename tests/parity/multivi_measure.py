"""How far MULTIVI's numbers are from scvi-tools', quantity by quantity."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from models_store.cells import Noise
from models_store.cvae import CVAE
from models_store.kinds import step_gradients
from models_store.multivi import MULTIVI
from models_store.surgery import query_parameters

from .measure import KL_WEIGHTS, MINIBATCH, N_STEPS, Errors, error, worst
from .multivi_oracle import Case, Side, build, fixed_noise, translate

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
    return [quantity for quantity, e in errors.items() if not e <= LIMITS[quantity]]


@functools.cache
def compare_reference(name: str) -> Errors:
    """The reference itself: forward quantities, and one gradient of all weights, twice."""
    side = build(name).reference
    return _forward(side) | _gradient(side, training=False) | _gradient(side, training=True)


@functools.cache
def compare_query(name: str) -> Errors:
    """The grafted network: forward quantities, and five steps of the query's weights."""
    case = build(name)
    return _forward(case.query) | _five_steps(case)


def noise_for(network: CVAE, n_cells: int, seed: int) -> Noise:
    """Draws that both implementations are given."""
    return network.draw_noise(n_cells, torch.Generator().manual_seed(seed))


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
        inference, loss = their_loss(side.model.module, side.tensors, noise, weight)
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
    """One gradient of every weight, and where batch norm learned them, its new statistics."""
    module, network = copy.deepcopy(side.model.module), copy.deepcopy(side.network)
    for m in (module, network):
        m.train(training)
    network.requires_grad_(True)
    module.requires_grad_(True)
    tensors, cells = side.minibatch(torch.arange(MINIBATCH))
    noise = noise_for(network, MINIBATCH, seed=2)
    network.mmd_weight = float(MINIBATCH)
    torch.manual_seed(3)  # the same dropout masks
    their_loss(module, tensors, noise, 0.3)[1].loss.backward()
    torch.manual_seed(3)
    network.training_loss(cells, noise, 0.3).backward()
    quantity = "gradient in training mode" if training else "gradient"
    errors = {quantity: worst(_weight_errors(network, module))}
    running = [name for name, _ in network.named_buffers() if "running" in name]
    if training and running:
        ours, theirs = network.state_dict(), translate(network, module.state_dict())
        errors["running statistics"] = worst(error(ours[n], theirs[n]) for n in running)
    return errors


def _weight_errors(network: MULTIVI, module: Any) -> Iterator[float]:
    theirs = translate(network, {name: _slope_of(p) for name, p in module.named_parameters()})
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        ours = _slope_of(parameter)
        if network.training and name.endswith(".b") and network.architecture.batch_norm != "none":
            # Batch norm takes the mean away, so where it follows, the bias has a gradient of zero
            # and rounding: what it is small against is the gradient of its layer.
            weights = name.removesuffix("b") + "W_x"
            yield error(
                torch.cat([ours[None], _slope_of(parameters[weights])]),
                torch.cat([theirs[name][None], theirs[weights]]),
            )
        elif parameter.numel():
            yield error(ours, theirs[name])


def _slope_of(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _batches(side: Side) -> Iterator[tuple[Tensor, Noise, float]]:
    """Fixed minibatches, noise and KL weights."""
    generator = torch.Generator().manual_seed(4)
    for step in range(N_STEPS):
        index = torch.randperm(len(side.cells.x), generator=generator)[:MINIBATCH]
        yield index, noise_for(side.network, MINIBATCH, seed=100 + step), step / (N_STEPS - 1)


def _five_steps(case: Case) -> Errors:
    """Adam on both sides, from the same weights."""
    module, network = _their_steps(case), _our_steps(case)
    ours, start = query_parameters(network), case.query.network.state_dict()
    end = network.state_dict()
    theirs = translate(network, module.state_dict())
    frozen = [name for name in end if name not in ours and end[name].numel()]
    return {
        "weights after 5 steps": worst(error(end[name], theirs[name]) for name in ours),
        "way of the weights": worst(
            error(end[name] - start[name], theirs[name] - start[name]) for name in ours
        ),
        "frozen weights": worst(error(end[name], theirs[name]) for name in frozen),
    }


def _our_steps(case: Case) -> MULTIVI:
    side, network = case.query, copy.deepcopy(case.query.network)
    network.mmd_weight = float(MINIBATCH)
    optimiser = torch.optim.Adam(query_parameters(network).values(), lr=1e-3, eps=0.01)
    with torch.no_grad():
        projection = network.project(side.cells)
    gradients = step_gradients(network, side.cells, projection, threads=1, minibatch_size=MINIBATCH)
    for index, noise, weight in _batches(side):
        for parameter, g in gradients(index, noise, weight).items():
            parameter.grad = g
        optimiser.step()
    return network


def _their_steps(case: Case) -> Any:
    """scvi-tools' gradients are zeroed where Cellgraft trains nothing."""
    module = copy.deepcopy(case.query.model.module)
    module.py_r.requires_grad_(True)  # frozen there; here the columns of new batches train
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, eps=0.01, weight_decay=0)
    for index, noise, weight in _batches(case.query):
        optimiser.zero_grad()
        tensors, _ = case.query.minibatch(index)
        their_loss(module, tensors, noise, weight)[1].loss.backward()
        for name, p in module.named_parameters():
            if p.grad is not None:
                p.grad.mul_(case.trains[name])
        optimiser.step()
    return module
