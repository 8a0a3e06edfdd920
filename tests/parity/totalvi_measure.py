"""How far Cellgraft's totalVI is from scvi-tools', quantity by quantity."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models_store.cells import Noise, Posterior
from models_store.cvae import LN_SAMPLES
from models_store.kinds import step_gradients
from models_store.layers import Block
from models_store.surgery import query_parameters
from models_store.totalvi import TOTALVI

from .measure import KL_WEIGHTS, N_STEPS, Errors, _slope_of, error, worst
from .totalvi_convert import translate
from .totalvi_oracle import TotalCase, TotalSide, build, fixed_noise

MINIBATCH = 48


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
    return _forward(case, case.query) | _five_steps(case)


def noise_for(network: TOTALVI, n_cells: int, seed: int) -> Noise:
    """Draws that both implementations are given."""
    return network.draw_noise(n_cells, torch.Generator().manual_seed(seed))


def _their_loss(module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float) -> Any:
    with fixed_noise(noise):
        return module(tensors, loss_kwargs={"kl_weight": weight})


@torch.no_grad()
def _forward(case: TotalCase, side: TotalSide) -> Errors:
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


def _output_errors(case: TotalCase, side: TotalSide, posterior: Posterior, noise: Noise) -> Errors:
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
    shares = network.gene_shares(z, into, cells.continuous)
    return {
        "normalised expression": error(shares, torch.as_tensor(genes)),
        "protein foreground": error(found.expression, torch.as_tensor(proteins)),
        "foreground probability": error(found.probability, torch.as_tensor(probability)),
    }


def _gradient(side: TotalSide, *, training: bool) -> Errors:
    """One gradient of every weight, and where batch norm learned them, its new statistics."""
    module, network = copy.deepcopy(side.module), copy.deepcopy(side.network)
    for m in (module, network):
        m.train(training).requires_grad_(True)
    if not network.library_is_latent:
        _drop_nothing(module, network)
    tensors, cells = side.minibatch(torch.arange(MINIBATCH))
    noise = noise_for(network, MINIBATCH, seed=2)
    torch.manual_seed(3)  # the same dropout masks
    _their_loss(module, tensors, noise, 0.3)[2].loss.backward()
    torch.manual_seed(3)
    network.training_loss(cells, noise, 0.3).backward()
    quantity = "gradient in training mode" if training else "gradient"
    errors = {quantity: worst(_weight_errors(network, module))}
    running = [name for name, _ in network.named_buffers() if "running" in name]
    if training and running:
        ours, theirs = network.state_dict(), translate(network, module.state_dict())
        errors["running statistics"] = worst(error(ours[n], theirs[n]) for n in running)
    return errors


def _drop_nothing(module: Any, network: TOTALVI) -> None:
    """scvi-tools draws masks for a library encoder that it then does not look at."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for part in network.modules():
        if isinstance(part, Block):
            part.dropout_rate = 0.0


def _weight_errors(network: TOTALVI, module: Any) -> Iterator[float]:
    theirs = translate(network, {name: _slope_of(p) for name, p in module.named_parameters()})
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        ours = _slope_of(parameter)
        weights = name.removesuffix("b") + "W_x"
        if network.training and weights in parameters and name.endswith(".b"):
            # Batch norm takes the mean away: see `measure`.
            yield error(
                torch.cat([ours[None], _slope_of(parameters[weights])]),
                torch.cat([theirs[name][None], theirs[weights]]),
            )
        elif parameter.numel():
            yield error(ours, theirs[name])


def _batches(side: TotalSide) -> Iterator[tuple[Tensor, Noise, float]]:
    generator = torch.Generator().manual_seed(4)
    for step in range(N_STEPS):
        index = torch.randperm(len(side.cells.x), generator=generator)[:MINIBATCH]
        yield index, noise_for(side.network, MINIBATCH, seed=100 + step), step / (N_STEPS - 1)


def _five_steps(case: TotalCase) -> Errors:
    """Adam on both sides, from the same weights."""
    module, network = _their_steps(case), _our_steps(case)
    ours, start = query_parameters(network), case.query.network.state_dict()
    end, theirs = network.state_dict(), translate(network, module.state_dict())
    frozen = [name for name in end if name not in ours and end[name].numel()]
    return {
        "weights after 5 steps": worst(error(end[name], theirs[name]) for name in ours),
        "way of the weights": worst(
            error(end[name] - start[name], theirs[name] - start[name]) for name in ours
        ),
        "frozen weights": worst(error(end[name], theirs[name]) for name in frozen),
    }


def _our_steps(case: TotalCase) -> TOTALVI:
    side, network = case.query, copy.deepcopy(case.query.network)
    optimiser = torch.optim.Adam(query_parameters(network).values(), lr=1e-3, eps=0.01)
    with torch.no_grad():
        projection = network.project(side.cells)
    gradients = step_gradients(network, side.cells, projection, threads=1, minibatch_size=MINIBATCH)
    for index, noise, weight in _batches(side):
        for parameter, g in gradients(index, noise, weight).items():
            parameter.grad = g
        optimiser.step()
    return network


def _their_steps(case: TotalCase) -> Any:
    """scvi-tools' gradients are zeroed where Cellgraft trains nothing."""
    module = copy.deepcopy(case.query.module)
    for frozen in (module.px_r, module.py_r):
        frozen.requires_grad_(True)  # here the columns of new batches train
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, eps=0.01, weight_decay=0)
    for index, noise, weight in _batches(case.query):
        optimiser.zero_grad()
        tensors, _ = case.query.minibatch(index)
        _their_loss(module, tensors, noise, weight)[2].loss.backward()
        for name, p in module.named_parameters():
            if p.grad is not None:
                p.grad.mul_(case.trains[name])
        optimiser.step()
    return module
