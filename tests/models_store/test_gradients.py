"""Closed-form gradients against autograd through the log-likelihoods, in float64."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models_store.likelihoods import log_likelihood, log_likelihood_gradient
from models_store.reconstruction import (
    DecoderOutput,
    Head,
    negative_log_likelihood,
    reconstruction_slope,
)

LIKELIHOODS = ("nb", "zinb", "poisson", "normal")
ROUNDING = 64 * torch.finfo(torch.float64).eps
SEEDS = st.integers(0, 2**31)
MU = {"ordinary": (-2, 5), "tiny": (-27, -14), "huge": (8, 14)}
THETA = {"ordinary": (-2, 4), "tiny": (-14, -7), "huge": (9, 14)}
COUNTS = {"zero": 0.0, "ordinary": 10.0, "huge": 1e6}
"""Ranges of log mu and log theta, and means of counts."""


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    u = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return low + (high - low) * u


def _counts(generator: torch.Generator, mean: float, *shape: int) -> Tensor:
    """A third of them zero whatever the mean."""
    some = (torch.rand(*shape, generator=generator) > 0.3).double()
    return (_uniform(generator, 0, 2 * mean, *shape) * some).round()


def _assert_close(ours: Tensor | None, theirs: Tensor | None, *, size: Tensor) -> None:
    """Within 1e-6 of the entry itself, or rounding of the largest term that cancelled in it."""
    assert ours is not None
    assert theirs is not None
    assert torch.isfinite(ours).all()
    excess = (ours - theirs).abs() - 1e-6 * theirs.abs() - ROUNDING * size
    assert (excess <= 0).all(), float(excess.max())


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("theta_range", THETA)
@pytest.mark.parametrize("mu_range", MU)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_derivatives_per_gene(
    likelihood: str, mu_range: str, theta_range: str, counts: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (20, 30)
    x = _counts(generator, COUNTS[counts], *shape)
    log_mu = _uniform(generator, *MU[mu_range], *shape).requires_grad_()
    log_theta = _uniform(generator, *THETA[theta_range], *shape).requires_grad_()
    if likelihood == "normal":  # its theta is a standard deviation
        log_theta = _uniform(generator, -3, 3, *shape).requires_grad_()
    pi = _uniform(generator, -12, 12, *shape).requires_grad_() if likelihood == "zinb" else None
    log_p = log_likelihood(likelihood, x, log_mu.exp(), log_theta.exp(), pi)
    wants_theta = likelihood != "poisson"
    wanted = [log_mu, *([log_theta] if wants_theta else []), *([] if pi is None else [pi])]
    theirs = torch.autograd.grad(log_p.sum(), wanted)
    with torch.no_grad():
        mu, theta = log_mu.exp(), log_theta.exp()
        ours = log_likelihood_gradient(likelihood, x, mu, theta, pi, wants_theta=wants_theta)
    # What cancels: x against x mu / mu, digammas and logarithms times theta.
    logs = 1 + x.log1p() + log_theta.detach().abs() + log_mu.detach().abs()
    terms = x + mu + theta * logs
    _assert_close(ours.log_mu, theirs[0], size=terms)
    if wants_theta:
        _assert_close(ours.log_theta, theirs[1], size=terms)
    if pi is not None:
        _assert_close(ours.pi, theirs[2], size=1 + theta * logs)


def _decoder_output(
    generator: torch.Generator, head: Head, *, per_cell: bool, wide: bool
) -> tuple[Tensor, DecoderOutput]:
    n, g = 6, 8
    reach = 3.0 if wide else 1.0
    x = _counts(generator, 10.0 ** float(_uniform(generator, 0, 2 * reach, 1)), n, g)
    if head.likelihood == "normal":
        x = x.log1p() - 0.5
    zinb = head.likelihood == "zinb"
    theta_shape = (n, g) if per_cell else (g,)
    leaves = DecoderOutput(
        logits=_uniform(generator, -6 * reach, 3 * reach, n, g),
        log_library=_uniform(generator, -2 * reach, 4 * reach, n, 1),
        log_theta=_uniform(generator, -3 * reach, 3 * reach, *theta_shape),
        pi=_uniform(generator, -4 * reach, 4 * reach, n, g) if zinb else None,
    )
    for field in dataclasses.fields(leaves):
        value = getattr(leaves, field.name)
        if value is not None:
            value.requires_grad_()
    return x, leaves


@pytest.mark.parametrize("wants_theta", [True, False])
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@given(seed=SEEDS, per_cell=st.booleans(), wide=st.booleans())
@settings(deadline=None, max_examples=25)
def test_slope_is_autograds(
    likelihood: str, softplus: bool, wants_theta: bool, seed: int, per_cell: bool, wide: bool
) -> None:
    head = Head(likelihood, softplus_scale=softplus)
    generator = torch.Generator().manual_seed(seed)
    x, out = _decoder_output(generator, head, per_cell=per_cell, wide=wide)
    out.log_theta.requires_grad_(wants_theta)
    upstream = 0.37
    (negative_log_likelihood(head, x, out).sum() * upstream).backward()
    named = {f.name: getattr(out, f.name) for f in dataclasses.fields(out)}
    leaves = {name: leaf for name, leaf in named.items() if leaf is not None}
    theirs = {name: leaf.grad for name, leaf in leaves.items()}
    for leaf in leaves.values():
        leaf.grad = None
    slope = reconstruction_slope(head, x, out)
    assert slope.item() == 0
    (slope * upstream).backward()
    for name, leaf in leaves.items():
        if name == "log_theta" and (likelihood == "poisson" or not wants_theta):
            assert leaf.grad is None
        else:
            # Digammas at theta up to e^9 cancel, then sums over genes do.
            _assert_close(leaf.grad, theirs[name], size=1e4 * theirs[name].abs().max())


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@given(seed=SEEDS, per_cell=st.booleans())
@settings(deadline=None, max_examples=10)
def test_float32_is_near_float64(
    likelihood: str, softplus: bool, seed: int, per_cell: bool
) -> None:
    head = Head(likelihood, softplus_scale=softplus)
    generator = torch.Generator().manual_seed(seed)
    x, out = _decoder_output(generator, head, per_cell=per_cell, wide=False)
    reconstruction_slope(head, x, out).backward()
    for field in dataclasses.fields(out):
        double = getattr(out, field.name)
        if double is None or double.grad is None:
            continue
        single = {
            f.name: None if getattr(out, f.name) is None else getattr(out, f.name).detach().float()
            for f in dataclasses.fields(out)
        }
        leaf = single[field.name].requires_grad_()
        reconstruction_slope(head, x.float(), DecoderOutput(**single)).backward()
        error = (leaf.grad.double() - double.grad).abs().max() / double.grad.abs().max()
        assert error < 1e-4


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("softplus", [True, False])
def test_logits_far_below_give_no_nan(likelihood: str, softplus: bool) -> None:
    """Softplus of -110 is 0 in float32, and so is the sigmoid: their quotient must not be asked."""
    head = Head(likelihood, softplus_scale=softplus)
    logits = torch.tensor([[-110.0, -90.0, -40.0, 2.0]], requires_grad=True)
    pi = torch.zeros(1, 4) if likelihood == "zinb" else None
    out = DecoderOutput(logits, torch.zeros(1, 1), torch.zeros(4), pi)
    reconstruction_slope(head, torch.tensor([[0.0, 3.0, 2.0, 1.0]]), out).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if likelihood == "poisson" and softplus:  # d/da of -x log softplus(a) tends to -x
        assert logits.grad[0, 1].item() == pytest.approx(-3)


def test_a_second_backward_fails_rather_than_lies() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    out = DecoderOutput(logits, torch.zeros(2, 1), torch.zeros(3), None)
    slope = reconstruction_slope(Head("nb", softplus_scale=False), torch.ones(2, 3), out)
    (2 * slope).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="number of gradients"):
        slope.backward()
