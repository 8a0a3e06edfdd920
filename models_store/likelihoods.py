"""Log-likelihoods of counts, and their derivatives in closed form.

Each `log_*` gives log p(x | ·) per cell and gene; x, μ, θ, π are (c, g) or broadcast to it.
`log_likelihood_gradient` gives ∂ log p / ∂ log μ and its siblings without an autograd graph over
genes: this is where training spends its time.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from models_store.manifest import Likelihood

EPS = 1e-8
"""Added inside logarithms, as scvi-tools does (Lopez et al. 2018; `distributions` there)."""

Genes = Float[Tensor, "*#c #g"]


def log_nb(x: Genes, mu: Genes, theta: Genes) -> Genes:
    """Negative binomial with mean μ and inverse dispersion θ (variance μ + μ²/θ)."""
    log_theta_mu = torch.log(theta + mu + EPS)
    return (
        theta * (torch.log(theta + EPS) - log_theta_mu)
        + x * (torch.log(mu + EPS) - log_theta_mu)
        + torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
    )


def log_zinb(x: Genes, mu: Genes, theta: Genes, pi: Genes) -> Genes:
    """Zero-inflated negative binomial; π is the logit of the extra zeros."""
    log_nb_zero = theta * (torch.log(theta + EPS) - torch.log(theta + mu + EPS))
    zero = softplus(log_nb_zero - pi) - softplus(-pi)
    positive = -softplus(-pi) - pi + log_nb(x, mu, theta)
    return torch.where(x < EPS, zero, positive)


def log_poisson(x: Genes, mu: Genes) -> Genes:
    """Poisson with mean μ."""
    return torch.xlogy(x, mu) - mu - torch.lgamma(x + 1)


def log_normal(x: Genes, mu: Genes, sd: Genes) -> Genes:
    """Normal with mean μ and standard deviation sd."""
    return -((x - mu) ** 2) / (2 * sd**2) - torch.log(sd) - 0.5 * math.log(2 * math.pi)


def log_likelihood(
    likelihood: Likelihood, x: Genes, mu: Genes, theta: Genes, pi: Genes | None
) -> Genes:
    """log p(x) under the named likelihood; for `normal`, θ is the standard deviation."""
    if likelihood == "nb":
        return log_nb(x, mu, theta)
    if likelihood == "zinb":
        assert pi is not None
        return log_zinb(x, mu, theta, pi)
    if likelihood == "poisson":
        return log_poisson(x, mu)
    return log_normal(x, mu, theta)


@dataclass(frozen=True)
class LikelihoodGradient:
    """Derivatives of log p for every cell and gene."""

    log_mu: Float[Tensor, "c g"]
    log_theta: Float[Tensor, "c g"] | None
    pi: Float[Tensor, "c g"] | None


def log_likelihood_gradient(
    likelihood: Likelihood,
    x: Float[Tensor, "c g"],
    mu: Float[Tensor, "c g"],
    theta: Genes,
    pi: Genes | None,
    *,
    wants_theta: bool,
) -> LikelihoodGradient:
    """∂ log p / ∂ log μ, and on request / where it exists ∂ / ∂ log θ and ∂ / ∂ π.

    With r = μ/(θ+μ+e), and s = 1 for x > 0, else the posterior probability under zinb that a zero
    comes from the negative binomial (s = 1 for nb):
        ∂/∂ log μ = x μ/(μ+e) - (x + s θ) r
        ∂/∂ π     = σ(-π) - s
        ∂/∂ log θ = θ [ s (log(θ+e) - log(θ+μ+e) + θ/(θ+e) - θ/(θ+μ+e))
                        + 1[x>0] (ψ(x+θ) - ψ(θ) - x/(θ+μ+e)) ]
    """
    if likelihood == "poisson":
        return LikelihoodGradient(x - mu, None, None)
    if likelihood == "normal":
        scaled = (x - mu) / theta**2
        d_sd = scaled * (x - mu) - 1 if wants_theta else None
        return LikelihoodGradient(scaled * mu, d_sd, None)
    denominator = mu + (theta + EPS)
    r = mu / denominator
    if likelihood == "nb":
        s_theta, d_pi, s = theta, None, None
    else:
        assert pi is not None
        a = theta * torch.log((theta + EPS) / denominator) - pi
        s = torch.where(x > EPS, 1.0, torch.sigmoid(a))
        s_theta, d_pi = s * theta, torch.sigmoid(-pi) - s
    d_mu = torch.addcmul(x * (mu / (mu + EPS)), x + s_theta, r, value=-1)
    d_theta = _log_theta_gradient(x, theta, denominator, s) if wants_theta else None
    return LikelihoodGradient(d_mu, d_theta, d_pi)


def _log_theta_gradient(
    x: Float[Tensor, "c g"], theta: Genes, denominator: Float[Tensor, "c g"], s: Genes | None
) -> Float[Tensor, "c g"]:
    zero_part = torch.log((theta + EPS) / denominator) + theta / (theta + EPS) - theta / denominator
    gradient = zero_part if s is None else s * zero_part
    # The digammas cancel where x = 0, and most counts are zero: evaluate the others alone.
    where = torch.nonzero(x.flatten() > EPS).squeeze(1)
    counts = x.flatten()[where]
    theta_there = theta.expand_as(x).flatten()[where]
    extra = (
        torch.digamma(counts + theta_there)
        - torch.digamma(theta).expand_as(x).flatten()[where]
        - counts / denominator.flatten()[where]
    )
    flat = gradient.flatten().index_add(0, where, extra)
    return flat.view_as(x) * theta
