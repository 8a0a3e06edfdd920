"""What a network's decoder expects of the genes, where the reference's own counts are not there."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.blocks import BLOCK
from models_store.cells import Cells
from models_store.layers import Codes, ConditionalLinear
from models_store.scvi import SCVI

DRAWS = 8192
SEED = 0


@torch.no_grad()
def expected_expression(
    cvae: SCVI,
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
    total = torch.zeros(cvae.architecture.n_genes, dtype=torch.float64)
    for start in range(0, len(z), BLOCK):
        rows = slice(start, start + BLOCK)
        total += expected_shares(cvae, z[rows], [code[rows] for code in codes]).double().sum(0)
    return tuple((total / total.sum()).tolist())


def draw_latents(cvae: SCVI, n: int, generator: torch.Generator) -> Float[Tensor, "c z"]:
    """Latents from the prior, z ~ N(0, I)."""
    z = torch.randn(n, cvae.architecture.n_latent, generator=generator)
    return torch.softmax(z, dim=-1) if cvae.architecture.latent_distribution == "ln" else z


def draw_codes(cvae: SCVI, n: int, generator: torch.Generator) -> list[Int[Tensor, " c"]]:
    """For each covariate, reference categories at random."""
    return [
        torch.randint(k, (n,), generator=generator) if k > 1 else torch.zeros(n).long()
        for k in cvae.n_categories
    ]


@torch.no_grad()
def expected_shares(cvae: SCVI, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c g"]:
    """Each gene's share of what the decoder expects of a cell at z; continuous covariates are 0."""
    n = len(z)
    cells = Cells(
        z.new_zeros(n, cvae.architecture.n_genes),
        codes,
        no_continuous(cvae, z),
        # The code of an unknown label.
        torch.full((n,), len(cvae.dispersion.reference), device=z.device),
    )
    out = cvae.decode(z, z.new_zeros(n, 1), cells)
    mu = cvae.head.scale(out.logits)
    if out.pi is not None:
        mu = mu * torch.sigmoid(-out.pi)
    return mu / mu.sum(-1, keepdim=True)


def no_continuous(cvae: SCVI, rows: Float[Tensor, "c n"]) -> Float[Tensor, "c n"] | None:
    """Zeros for every continuous covariate of as many cells; None where there are none."""
    first = cvae.decoder.layers.linears[0]
    assert isinstance(first, ConditionalLinear)
    n = first.W_x.shape[0] - cvae.architecture.n_latent
    return rows.new_zeros(len(rows), n) if n else None
