"""The protein part of totalVI's loss (Gayoso, Steier et al. 2021): background or foreground counts.

    log b ~ N(α, β)             the background of a protein in a cell, drawn with noise ε
    μ_back = f b                f: how well proteins of the cell's batch were caught
    μ_fore = f b (1 + ReLU(φ))  the foreground is above it
    p(y) = σ(π) NB(y; μ_back, θ) + (1 - σ(π)) NB(y; μ_fore, θ)
    KL(N(α, β) || N(α_s, β_s))  with a prior of each batch (or panel) s

Proteins that a batch was not measured for are left out of both. Notation: c cells, p proteins.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from models_store.architecture import Background
from models_store.likelihoods import EPS

SD_EPS = 1e-8
EXPRESSED_WEIGHT = 1e-3
"""How strongly each protein is pulled towards background (scvi-tools since 1.3.1)."""


@dataclass(frozen=True)
class ProteinOutput:
    """Raw outputs of the decoder for the proteins of cells, each (c, p)."""

    mean: Float[Tensor, "c p"]
    """α, of the log background."""
    sd: Float[Tensor, "c p"]
    """β before its activation."""
    foreground: Float[Tensor, "c p"]
    """φ, before the ReLU."""
    mixing: Float[Tensor, "c p"]
    """π: logits of being background."""


@dataclass(frozen=True)
class ProteinCounts:
    """What the outputs are held against, and the parameters beside them."""

    y: Float[Tensor, "c p"]
    measured: Bool[Tensor, "c p"] | None
    """Which proteins a cell was measured for; None: all."""
    noise: Float[Tensor, "c p"]
    prior_mean: Float[Tensor, "*#c p"]
    prior_log_sd: Float[Tensor, "*#c p"]
    log_theta: Float[Tensor, "*#c p"]
    log_efficiency: Float[Tensor, "*#c p"] | None
    """log f; None where batches have none."""


@dataclass(frozen=True)
class ProteinTerms:
    """Of each cell, in nats: -log p(y), and the divergence of the background with weak priors."""

    reconstruction: Float[Tensor, " c"]
    kl_background: Float[Tensor, " c"]


def background_sd(raw: Float[Tensor, "c p"], activation: Background) -> Float[Tensor, "c p"]:
    """β from its raw output."""
    return (softplus(raw) if activation == "softplus" else raw.exp()) + SD_EPS


def protein_terms(out: ProteinOutput, given: ProteinCounts, activation: Background) -> ProteinTerms:
    """The protein terms of each cell's loss."""
    sd = background_sd(out.sd, activation)
    back = (out.mean + sd * given.noise).exp()
    if given.log_efficiency is not None:
        back = given.log_efficiency.exp() * back
    fore = back * foreground_scale(out)
    surprise = -log_mixture(given.y, back, fore, given.log_theta.exp(), out.mixing)
    prior_sd = given.prior_log_sd.exp()
    ratio = (sd / prior_sd) ** 2
    kl = 0.5 * (ratio + ((out.mean - given.prior_mean) / prior_sd) ** 2 - 1 - ratio.log())
    if given.measured is not None:
        surprise = torch.where(given.measured, surprise, 0.0)
        kl = torch.where(given.measured, kl, 0.0)
    if given.log_efficiency is not None:
        kl = kl + _efficiency_surprise(given.log_efficiency)
        kl = kl + EXPRESSED_WEIGHT * softplus(-out.mixing)
    return ProteinTerms(surprise.sum(-1), kl.sum(-1))


def foreground_scale(out: ProteinOutput) -> Float[Tensor, "c p"]:
    """How many times the background the foreground is."""
    return torch.relu(out.foreground) + 1 + SD_EPS


def log_mixture(
    y: Float[Tensor, "c p"],
    back: Float[Tensor, "c p"],
    fore: Float[Tensor, "c p"],
    theta: Float[Tensor, "*#c p"],
    mixing: Float[Tensor, "c p"],
) -> Float[Tensor, "c p"]:
    """log p(y) of two negative binomials of one dispersion."""
    gammas = torch.lgamma(y + theta) - torch.lgamma(theta) - torch.lgamma(y + 1)
    of_theta = theta * (theta + EPS).log()

    def log_nb(mu: Tensor) -> Tensor:
        return of_theta + y * (mu + EPS).log() - (theta + y) * (theta + mu + EPS).log()

    either = torch.logaddexp(log_nb(back), log_nb(fore) - mixing)
    return gammas + either - softplus(-mixing)


def _efficiency_surprise(log_f: Float[Tensor, "*#c p"]) -> Float[Tensor, "*#c p"]:
    """-log LogNormal(f; 0, 1)."""
    return log_f + 0.5 * log_f**2 + 0.5 * math.log(2 * math.pi)
