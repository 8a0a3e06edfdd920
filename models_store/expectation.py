"""What a network's decoder expects of the genes, where the reference's own counts are not there."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.blocks import BLOCK
from models_store.cells import Cells
from models_store.layers import ConditionalLinear
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
        z = torch.randn(DRAWS, cvae.architecture.n_latent, generator=generator)
        if cvae.architecture.latent_distribution == "ln":
            z = torch.softmax(z, dim=-1)
    codes = [
        torch.randint(k, (len(z),), generator=generator) if k > 1 else torch.zeros(len(z)).long()
        for k in cvae.n_categories
    ]
    if batches is not None:
        codes[0] = batches
    total = torch.zeros(cvae.architecture.n_genes, dtype=torch.float64)
    for start in range(0, len(z), BLOCK):
        rows = slice(start, start + BLOCK)
        total += _shares(cvae, z[rows], [code[rows] for code in codes]).double().sum(0)
    return tuple((total / total.sum()).tolist())


def _shares(
    cvae: SCVI, z: Float[Tensor, "c z"], codes: Sequence[Int[Tensor, " c"]]
) -> Float[Tensor, "c g"]:
    n = len(z)
    first = cvae.decoder.layers.linears[0]
    assert isinstance(first, ConditionalLinear)
    n_continuous = first.W_x.shape[0] - z.shape[1]
    cells = Cells(
        z.new_zeros(n, cvae.architecture.n_genes),
        tuple(codes),
        z.new_zeros(n, n_continuous) if n_continuous else None,
        torch.full((n,), len(cvae.dispersion.reference)),  # the code of an unknown label
    )
    out = cvae.decode(z, z.new_zeros(n, 1), cells)
    mu = cvae.head.scale(out.logits)
    if out.pi is not None:
        mu = mu * torch.sigmoid(-out.pi)
    return mu / mu.sum(-1, keepdim=True)
