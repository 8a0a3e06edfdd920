"""What a network's decoder expects of the genes, where the reference's own counts are not there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.blocks import decoded_at_once
from models_store.cvae import CVAE

DRAWS = 8192
SEED = 0


@torch.no_grad()
def expected_expression(
    cvae: CVAE,
    z: Float[Tensor, "c z"] | None = None,
    batches: Int[Tensor, " c"] | None = None,
) -> tuple[float, ...]:
    """Each gene's mean share of what the decoder expects of a cell; sums to 1.

    Args:
        cvae: the network, in eval mode.
        z: latents of reference cells, a sample of them; None draws z ~ N(0, I).
        batches: the reference batch of each z; None takes the batches in turn.

    Returns:
        The mean over cells of μ (1 - σ(π)) / Σ_g μ (1 - σ(π)), π of zinb alone. Extra covariates
        take their categories in turn, continuous ones are 0.
    """
    generator = torch.Generator().manual_seed(SEED)
    if z is None:
        z = draw_latents(cvae, DRAWS, generator)
    codes = draw_codes(cvae, len(z), generator)
    if batches is not None:
        codes[0] = batches
    total = torch.zeros(cvae.architecture.n_features, dtype=torch.float64)
    at_once = decoded_at_once(len(total))
    for start in range(0, len(z), at_once):
        rows = slice(start, start + at_once)
        total += cvae.expected_shares(z[rows], [code[rows] for code in codes]).double().sum(0)
    return tuple((total / total.sum()).tolist())


def draw_latents(cvae: CVAE, n: int, generator: torch.Generator) -> Float[Tensor, "c z"]:
    """Latents from the prior, z ~ N(0, I)."""
    z = torch.randn(n, cvae.architecture.n_latent, generator=generator)
    return torch.softmax(z, dim=-1) if cvae.architecture.latent_distribution == "ln" else z


def draw_codes(cvae: CVAE, n: int, generator: torch.Generator) -> list[Int[Tensor, " c"]]:
    """For each covariate, reference categories at random."""
    return [
        torch.randint(k, (n,), generator=generator) if k > 1 else torch.zeros(n).long()
        for k in cvae.n_categories
    ]
