"""Log-likelihoods against scipy, which knows nothing of torch or of scvi-tools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from models_store.likelihoods import log_likelihood, log_nb, log_normal, log_poisson, log_zinb

POSITIVE = st.floats(1e-3, 1e4)
COUNT = st.integers(0, 5000)


def _double(*values: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([v], dtype=torch.float64) for v in values)


def _assert_close(ours: torch.Tensor, theirs: float) -> None:
    # The 1e-8 inside scvi-tools' logarithms is worth up to 1e-8 (x / mu + theta / theta).
    assert ours.item() == pytest.approx(theirs, rel=1e-5, abs=1e-4)


@given(COUNT, POSITIVE, POSITIVE)
@settings(deadline=None, max_examples=100)
def test_nb_is_scipys(x: int, mu: float, theta: float) -> None:
    _assert_close(
        log_nb(*_double(x, mu, theta)), stats.nbinom.logpmf(x, theta, theta / (theta + mu))
    )


@given(COUNT, POSITIVE)
@settings(deadline=None, max_examples=50)
def test_poisson_is_scipys(x: int, mu: float) -> None:
    _assert_close(log_poisson(*_double(x, mu)), stats.poisson.logpmf(x, mu))


@given(st.floats(-100, 100), st.floats(-100, 100), POSITIVE)
@settings(deadline=None, max_examples=50)
def test_normal_is_scipys(x: float, mu: float, sd: float) -> None:
    _assert_close(log_normal(*_double(x, mu, sd)), stats.norm.logpdf(x, mu, sd))


@given(COUNT, POSITIVE, POSITIVE, st.floats(-8, 8))
@settings(deadline=None, max_examples=100)
def test_zinb_mixes_a_zero_with_nb(x: int, mu: float, theta: float, pi: float) -> None:
    zero = 1 / (1 + np.exp(-pi))
    nb = stats.nbinom.logpmf(x, theta, theta / (theta + mu)) + np.log1p(-zero)
    expected = np.logaddexp(np.log(zero), nb) if x == 0 else nb
    _assert_close(log_zinb(*_double(x, mu, theta, pi)), expected)


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson"])
def test_counts_have_total_probability_one(likelihood: str) -> None:
    x = torch.arange(2000, dtype=torch.float64)
    mu, theta, pi = (v.expand(2000) for v in _double(20.0, 1.5, -0.7))
    log_p = log_likelihood(likelihood, x, mu, theta, pi)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
