"""Which modalities a cell has, and one posterior out of those that each of them gives.

    a_k   exp(w_k) / Σ_present exp(w)         of a modality that is present, else about 0
    m     Σ_k a_k m_k
    v     Σ_k √a_k v_k                        as scvi-tools mixes them

The penalty pulls the posteriors of a cell's modalities together, pair by pair (surgery.md 0.7):

    exact Jeffreys   KL(p_i || p_j) + KL(p_j || p_i)   with p_k = N(m_k, v_k)
    Jeffreys         the same with p_k = N(m_k, √v_k), √v the variance
    MMD              ||m_i - m_j||                     times `MULTIVI.mmd_weight` in the loss

k counts genes, regions and proteins, in this order. Notation as in `layers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.architecture import Architecture, ModalityPenalty
from models_store.cells import Posterior
from models_store.cvae import LossTerms
from models_store.sparse_counts import columns

N_MODALITIES = 3
MMD_WEIGHT = 128.0
"""scvi-tools adds the distances of all cells of a minibatch to the loss of each of them, so at its
128 cells a distance weighs 128 times what a distance of its own cell alone would."""
ABSENT = 1e-30
"""Stands for exp(w) of a modality that is absent, so that a cell without any has a latent."""


@dataclass(frozen=True)
class ModalityLossTerms(LossTerms):
    """The loss of each cell; `reconstruction` sums over the modalities that it has."""

    penalty: Float[Tensor, " c"]
    penalty_power: int = 0
    """The penalty counts by this power of the KL weight: in full at 0."""

    def loss(self, kl_weight: float) -> Float[Tensor, ""]:
        """Mean over cells."""
        penalty = kl_weight**self.penalty_power * self.penalty
        return (self.reconstruction + kl_weight * self.kl_z + penalty).mean()

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """As scvi-tools logs it: less the penalty, which no bound knows."""
        return -(self.reconstruction + self.kl_z + self.penalty).mean()


def split_modalities(x: Float[Tensor, "c n"], a: Architecture) -> tuple[Tensor, ...]:
    """The counts of genes, of regions and of proteins; (c, 0) for none of a kind."""
    ends = accumulate(a.counts().values(), initial=0)
    return tuple(columns(x, start, stop) for start, stop in pairwise(ends))


def presence(parts: Sequence[Float[Tensor, "c n"]]) -> Float[Tensor, "c k"]:
    """1 where a cell has counts of a modality, else 0."""
    return torch.stack([(part.sum(-1) > 0).to(part.dtype) for part in parts], dim=-1)


def modality_shares(
    weights: Float[Tensor, " k"], present: Float[Tensor, "c k"]
) -> Float[Tensor, "c k"]:
    """The a_k of each cell."""
    exps = torch.where(present > 0, weights.exp(), ABSENT)
    return exps / (exps.sum(-1, keepdim=True) + ABSENT)


def mix_posteriors(
    each: Sequence[Posterior], weights: Float[Tensor, " k"], present: Float[Tensor, "c k"]
) -> Posterior:
    """One posterior for each cell, of the modalities that it has.

    Args:
        each: the posterior that each modality gives, of every cell.
        weights: the w_k.
        present: as `presence` tells it.
    """
    shares = modality_shares(weights, present)
    m = [shares[:, k : k + 1] * posterior.m for k, posterior in enumerate(each)]
    v = [shares[:, k : k + 1].sqrt() * posterior.v for k, posterior in enumerate(each)]
    return Posterior(m[0] + m[1] + m[2], v[0] + v[1] + v[2])


def modality_penalty(
    kind: ModalityPenalty, each: Sequence[Posterior], present: Float[Tensor, "c k"]
) -> Float[Tensor, " c"]:
    """How far the posteriors of a cell's modalities are apart, in nats unless it is `MMD`."""
    total = torch.zeros_like(each[0].m[:, 0])
    if kind == "None":
        return total
    between = _distance if kind == "MMD" else _jeffreys
    if kind == "Jeffreys":
        each = [Posterior(posterior.m, posterior.v.sqrt()) for posterior in each]
    for i, j in combinations(range(len(each)), 2):
        both = (present[:, i] * present[:, j]) > 0
        total = total + torch.where(both, between(each[i], each[j]), 0.0)
    return total


def _jeffreys(p: Posterior, q: Posterior) -> Float[Tensor, " c"]:
    squared = (p.m - q.m) ** 2
    return 0.5 * (p.v / q.v + q.v / p.v - 2 + squared * (1 / p.v + 1 / q.v)).sum(-1)


def _distance(p: Posterior, q: Posterior) -> Float[Tensor, " c"]:
    return torch.as_tensor(torch.linalg.vector_norm(p.m - q.m, dim=-1))
