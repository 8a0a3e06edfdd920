"""The kernels of the likelihood, in float32, against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models_store.count_rows import CountRows
from models_store.kernels import Logits, fused_gradient, fused_theta_gradient
from models_store.likelihoods import LikelihoodGradient, log_likelihood_gradient

N, G = 6, 37
LIBRARY = {"tiny": (-22.0, -12.0), "ordinary": (4.0, 9.0), "huge": (12.0, 16.0)}
THETA = {"tiny": (-14.0, -7.0), "ordinary": (-2.0, 4.0), "huge": (9.0, 13.0)}
"""Ranges of the log library, hence of μ from 1e-12 on, and of log θ."""


class _Case:
    """One draw, with the definition's answer and the largest terms that cancel in it."""

    def __init__(self, seed: int, likelihood: str, library: str, theta: str, per_cell: bool):
        self.generator = torch.Generator().manual_seed(seed)
        self.logits, self.bias = self._uniform(-4, 4, N, G), self._uniform(-1, 1, G)
        self.library = self._uniform(*LIBRARY[library], N, 1).exp()
        self.theta = self._uniform(*THETA[theta], *([N, G] if per_cell else [G])).exp()
        self.x = (self._uniform(0, 30, N, G) * (self._uniform(0, 1, N, G) > 0.8)).round()
        self.x[0] = 0
        self.pi, self.pi_bias = self._uniform(-9, 9, N, G), self._uniform(-1, 1, G)
        self.scale = torch.softmax((self.logits + self.bias).double(), dim=-1)
        pi = (self.pi + self.pi_bias).double() if likelihood == "zinb" else None
        mu, theta64 = self.scale * self.library.double(), self.theta.double()
        self.exact: LikelihoodGradient = log_likelihood_gradient(
            likelihood, self.x.double(), mu, theta64, pi, wants_theta=likelihood == "nb"
        )
        # In zinb a rounding of θ log(1 + μ/θ) moves the odds of a zero, and that moves min(θ, μ).
        in_exponent = theta64 * torch.log1p(mu / theta64) if pi is not None else 0.0
        self.size = self.x + torch.minimum(mu, theta64 + self.x) * (1.0 + in_exponent)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator)


@pytest.mark.parametrize("theta", THETA)
@pytest.mark.parametrize("library", LIBRARY)
@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
@given(seed=st.integers(0, 2**31), per_cell=st.booleans())
@settings(deadline=None, max_examples=10)
def test_gradients(likelihood: str, library: str, theta: str, seed: int, per_cell: bool) -> None:
    case = _Case(seed, likelihood, library, theta, per_cell)
    scale = Logits(case.logits.clone(), case.bias)
    pi = Logits(case.pi.clone(), case.pi_bias) if likelihood == "zinb" else None
    total = fused_gradient(CountRows.of(case.x), scale, case.library, case.theta, pi)
    delta = case.exact.log_mu
    summed, whole = delta.sum(-1, keepdim=True), case.size.sum(-1, keepdim=True)
    near = 4e-6 * case.size + 4e-6 * case.scale * whole + 1e-30
    assert ((scale.product - (case.scale * summed - delta)).abs() <= near).all()
    assert ((total + summed).abs() <= 4e-6 * whole + 1e-30).all()
    if pi is not None and case.exact.pi is not None:
        odds = 1 + case.theta * torch.log1p(case.scale * case.library / case.theta)
        assert ((pi.product + case.exact.pi).abs() <= 2e-6 * odds).all()


@pytest.mark.parametrize("theta", THETA)
@pytest.mark.parametrize("library", LIBRARY)
@given(seed=st.integers(0, 2**31), per_cell=st.booleans())
@settings(deadline=None, max_examples=10)
def test_gradient_of_theta(library: str, theta: str, seed: int, per_cell: bool) -> None:
    case = _Case(seed, "nb", library, theta, per_cell)
    found = fused_theta_gradient(case.x, case.scale.float(), case.library, case.theta)
    assert case.exact.log_theta is not None
    logs = 1 + case.theta.log().abs() + case.x.log1p() + (case.scale * case.library).log1p()
    near = 1e-6 * (case.theta * logs + case.x)
    assert ((found + case.exact.log_theta).abs() <= near).all()
