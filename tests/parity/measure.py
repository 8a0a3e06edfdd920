"""How far Cellgraft's numbers are from scvi-tools', quantity by quantity."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from models_store.cells import Cells, Noise, Posterior, select_cells
from models_store.cvae import CVAE, LN_SAMPLES, LossTerms
from models_store.kinds import step_gradients
from models_store.peakvi import PEAKVI
from models_store.scanvi import SCANVI, LabelledLossTerms
from models_store.surgery import query_parameters

from .convert import translate
from .oracle import Case, Side, build, fixed_noise, labelled_cells

KL_WEIGHTS = (0.0, 0.3, 1.0)
N_STEPS, MINIBATCH = 5, 48
MEAN_WEIGHT = "z_encoder.mean.weight"

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

Errors = dict[str, float]


def error(ours: Tensor, theirs: Tensor) -> float:
    """max|a - b| / max|b|; NaN never passes for small."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} against {tuple(theirs.shape)}"
    difference = float((ours - theirs).detach().abs().max()) if ours.numel() else 0.0
    if difference == 0:
        return 0.0
    size = float(theirs.detach().abs().max())
    return difference / size if size > 0 else float("inf")


def worst(errors: Iterable[float]) -> float:
    """The largest error; NaN counts as infinite."""
    return max((e if e == e else float("inf") for e in errors), default=0.0)


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
    side: Side, module: Any, tensors: dict[str, Tensor], noise: Noise, weight: float
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
def _forward(side: Side) -> Errors:
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


def _label_errors(side: Side, posterior: Posterior) -> Errors:
    if not isinstance(side.network, SCANVI):
        return {}
    ours = side.network.label_probabilities(posterior.m)
    return {"label probabilities": error(ours, torch.as_tensor(side.probabilities))}


def _accessibility_errors(side: Side, posterior: Posterior) -> Errors:
    network = side.network
    if side.accessibility is None:
        return {}
    ours = network.decoded("accessibility", posterior.m, side.cells)
    return {"accessibility": error(ours, torch.as_tensor(side.accessibility))}


def _latent_error(side: Side, posterior: Posterior) -> Errors:
    network = side.network
    ours, theirs = network.latent(posterior), torch.as_tensor(side.latent)
    if network.architecture.latent_distribution == "normal":
        return {"latent": error(ours, theirs)}
    noise = (noise_for(network, len(ours), seed).z for seed in range(500))
    spread = torch.stack([network.sample(posterior, z) for z in noise]).std(0)
    standard_error = spread * (2 / LN_SAMPLES) ** 0.5  # of the difference of two such means
    return {"latent, in standard errors": float(((ours - theirs) / standard_error).abs().max())}


def _gradient(side: Side, *, training: bool) -> Errors:
    """One gradient of every weight, and where batch norm learned them, its new statistics."""
    module, network = copy.deepcopy(side.module), copy.deepcopy(side.network)
    for m in (module, network):
        m.train(training).requires_grad_(True)
    tensors, cells = side.minibatch(torch.arange(MINIBATCH))
    noise = noise_for(network, MINIBATCH, seed=2)
    torch.manual_seed(3)  # the same dropout masks
    their_loss(side, module, tensors, noise, 0.3)[2].backward()
    torch.manual_seed(3)
    weight = our_weight(network, MINIBATCH, 0.3)
    network.training_loss(cells, noise, weight, labelled=_labelled(side, cells)).backward()
    quantity = "gradient in training mode" if training else "gradient"
    errors = {quantity: worst(_weight_errors(network, module))}
    running = [name for name, _ in network.named_buffers() if "running" in name]
    if training and running:
        ours, theirs = network.state_dict(), translate(network, module.state_dict())
        errors["running statistics"] = worst(error(ours[n], theirs[n]) for n in running)
    return errors


def _labelled(side: Side, cells: Cells) -> Cells | None:
    """As a minibatch of its own, which in training mode has its own dropout and statistics."""
    if not isinstance(side.network, SCANVI):
        return None
    assert cells.labels is not None
    return select_cells(cells, torch.nonzero(cells.labels < side.network.n_labels).squeeze(1))


def _weight_errors(network: CVAE, module: Any) -> Iterator[float]:
    theirs = translate(network, {name: _slope_of(p) for name, p in module.named_parameters()})
    parameters = dict(network.named_parameters())
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


def _batches(side: Side) -> Iterator[tuple[Tensor, Noise, float]]:
    """Fixed minibatches, noise and KL weights."""
    generator = torch.Generator().manual_seed(4)
    for step in range(N_STEPS):
        index = torch.randperm(len(side.cells.x), generator=generator)[:MINIBATCH]
        yield index, noise_for(side.network, MINIBATCH, seed=100 + step), step / (N_STEPS - 1)


def _five_steps(case: Case) -> Errors:
    """Adam on both sides, from the same weights."""
    module = _their_steps(case)
    network = _our_steps(case)
    ours, start, end = (
        query_parameters(network),
        case.query.network.state_dict(),
        network.state_dict(),
    )
    theirs = translate(network, module.state_dict())
    frozen = [name for name in end if name not in ours and end[name].numel()]
    return {
        "weights after 5 steps": worst(error(end[name], theirs[name]) for name in ours),
        "way of the weights": worst(
            error(end[name] - start[name], theirs[name] - start[name]) for name in ours
        ),
        "frozen weights": worst(error(end[name], theirs[name]) for name in frozen),
    }


def _our_steps(case: Case) -> CVAE:
    side, network = case.query, copy.deepcopy(case.query.network)
    optimiser = torch.optim.Adam(query_parameters(network).values(), lr=1e-3, eps=0.01)
    with torch.no_grad():
        projection = network.project(side.cells)
    gradients = step_gradients(network, side.cells, projection, threads=1, minibatch_size=MINIBATCH)
    for index, noise, weight in _batches(side):
        ours = our_weight(network, MINIBATCH, weight)
        for parameter, g in gradients(index, noise, ours).items():
            parameter.grad = g
        optimiser.step()
    return network


def _their_steps(case: Case) -> Any:
    """scvi-tools' gradients are zeroed where Cellgraft trains nothing."""
    module = copy.deepcopy(case.query.module)
    if hasattr(module, "px_r") and isinstance(module.px_r, torch.nn.Parameter):
        module.px_r.requires_grad_(True)  # frozen there; here the columns of new batches train
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, eps=0.01, weight_decay=0)
    for index, noise, weight in _batches(case.query):
        optimiser.zero_grad()
        tensors, _ = case.query.minibatch(index)
        their_loss(case.query, module, tensors, noise, weight)[2].backward()
        for name, p in module.named_parameters():
            if p.grad is not None:
                p.grad.mul_(case.trains[name])
        optimiser.step()
    return module
