"""One gradient, and five steps of the query's weights, in both implementations side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models_store.cells import Noise
from models_store.cvae import CVAE
from models_store.kinds import step_gradients
from models_store.surgery import query_parameters

from .errors import Errors, error, worst
from .sides import Case, Side

N_STEPS, MINIBATCH = 5, 48
MEAN_WEIGHT = "z_encoder.mean.weight"

Tensors = dict[str, Tensor]
TheirLoss = Callable[[Any, Tensors, Noise, float], Tensor]
"""scvi-tools' module, its minibatch, the draws and the KL weight, to the loss that it trains by."""
Translate = Callable[[Any, Mapping[str, Tensor]], Tensors]


@dataclass(frozen=True)
class Both:
    """What differs between the kinds of networks in a step."""

    translate: Translate
    """scvi-tools' tensors under our names."""
    their_loss: TheirLoss
    our_weight: Callable[[CVAE, float], float] = lambda network, weight: weight
    """The KL weight that means to our loss what a weight means to theirs."""
    thawed: tuple[str, ...] = ("px_r", "py_r")
    """Parameters that are frozen there; here the columns of new batches train."""


def noise_for(network: CVAE, n_cells: int, seed: int) -> Noise:
    """Draws that both implementations are given."""
    return network.draw_noise(n_cells, torch.Generator().manual_seed(seed))


def one_gradient(
    both: Both, side: Side, module: Any, network: CVAE, *, labelled: Any = None
) -> Errors:
    """Of every weight, and where batch norm learned them, its new statistics.

    Args:
        both: what differs.
        side: whose cells they are.
        module: scvi-tools' own, in the mode that is compared, which keeps the gradient.
        network: ours, likewise.
        labelled: gives the cells of a minibatch that a classifier learns from.
    """
    tensors, cells = side.minibatch(torch.arange(MINIBATCH))
    noise = noise_for(network, MINIBATCH, seed=2)
    torch.manual_seed(3)  # the same dropout masks
    both.their_loss(module, tensors, noise, 0.3).backward()
    torch.manual_seed(3)
    known = None if labelled is None else labelled(side, cells)
    weight = both.our_weight(network, 0.3)
    network.training_loss(cells, noise, weight, labelled=known).backward()
    quantity = "gradient in training mode" if network.training else "gradient"
    errors = {quantity: worst(_weight_errors(both, network, module))}
    running = [name for name, _ in network.named_buffers() if "running" in name]
    if network.training and running:
        ours, theirs = network.state_dict(), both.translate(network, module.state_dict())
        errors["running statistics"] = worst(error(ours[n], theirs[n]) for n in running)
    return errors


def _weight_errors(both: Both, network: CVAE, module: Any) -> Iterator[float]:
    slopes = {name: _slope_of(p) for name, p in module.named_parameters()}
    theirs, parameters = both.translate(network, slopes), dict(network.named_parameters())
    norm_follows = network.training and network.architecture.batch_norm != "none"
    for name, parameter in parameters.items():
        ours = _slope_of(parameter)
        if norm_follows and (name.endswith(".b") or name == "z_encoder.mean.bias"):
            # Batch norm takes the mean away, so where it follows, the bias has a gradient of zero
            # and rounding: what it is small against is the gradient of its layer.
            weights = name.removesuffix("b") + "W_x" if name.endswith(".b") else MEAN_WEIGHT
            yield error(
                torch.cat([ours, _slope_of(parameters[weights]).flatten()]),
                torch.cat([theirs[name], theirs[weights].flatten()]),
            )
        elif parameter.numel():
            yield error(ours, theirs[name])


def _slope_of(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def five_steps(both: Both, case: Case, module: Any) -> Errors:
    """Adam on both sides, from the same weights; `module` is scvi-tools' of the query."""
    module, network = _their_steps(both, case, copy.deepcopy(module)), _our_steps(both, case)
    ours, start = query_parameters(network), case.query.network.state_dict()
    end, theirs = network.state_dict(), both.translate(network, module.state_dict())
    frozen = [name for name in end if name not in ours and end[name].numel()]
    return {
        "weights after 5 steps": worst(error(end[name], theirs[name]) for name in ours),
        "way of the weights": worst(
            error(end[name] - start[name], theirs[name] - start[name]) for name in ours
        ),
        "frozen weights": worst(error(end[name], theirs[name]) for name in frozen),
    }


def _batches(side: Side) -> Iterator[tuple[Tensor, Noise, float]]:
    """Fixed minibatches, noise and KL weights."""
    generator = torch.Generator().manual_seed(4)
    for step in range(N_STEPS):
        index = torch.randperm(len(side.cells.x), generator=generator)[:MINIBATCH]
        yield index, noise_for(side.network, MINIBATCH, seed=100 + step), step / (N_STEPS - 1)


def _our_steps(both: Both, case: Case) -> CVAE:
    side, network = case.query, copy.deepcopy(case.query.network)
    optimiser = torch.optim.Adam(query_parameters(network).values(), lr=1e-3, eps=0.01)
    with torch.no_grad():
        projection = network.project(side.cells)
    gradients = step_gradients(network, side.cells, projection, threads=1, minibatch_size=MINIBATCH)
    for index, noise, weight in _batches(side):
        ours = both.our_weight(network, weight)
        for parameter, g in gradients(index, noise, ours).items():
            parameter.grad = g
        optimiser.step()
    return network


def _their_steps(both: Both, case: Case, module: Any) -> Any:
    """scvi-tools' gradients are zeroed where Cellgraft trains nothing."""
    for name in both.thawed:
        if isinstance(frozen := getattr(module, name, None), torch.nn.Parameter):
            frozen.requires_grad_(True)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, eps=0.01, weight_decay=0)
    for index, noise, weight in _batches(case.query):
        optimiser.zero_grad()
        tensors, _ = case.query.minibatch(index)
        both.their_loss(module, tensors, noise, weight).backward()
        for name, p in module.named_parameters():
            if p.grad is not None:
                p.grad.mul_(case.trains[name])
        optimiser.step()
    return module
