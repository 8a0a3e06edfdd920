"""How much each gene tells the cells of a reference apart, by its decoder."""

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.blocks import judged_at_once
from models_store.cvae import CVAE
from models_store.expectation import DRAWS, SEED, draw_latents
from models_store.layers import Codes
from models_store.surgery import graft


@torch.no_grad()
def informativeness(cvae: CVAE, z: Float[Tensor, "c z"] | None = None) -> tuple[float, ...]:
    """Each gene's part in how far the decoder's profiles of cells lie apart; sums to 1.

    The squared Hellinger distance of two profiles p and q is 1/2 Σ_g (√p_g - √q_g)², so over all
    pairs of cells a gene's part in it is the variance of √p_g. The square root also takes off what
    the noise of counts would be: it is alike for all genes there (Anscombe 1948).

    Args:
        cvae: the network, in eval mode.
        z: latents of reference cells, a sample of them; None draws z ~ N(0, I).

    Returns:
        The variances, divided by their sum; the same of every gene where the decoder knows one
        profile alone. Covariates take the mean of their reference rows, so that batches differ in
        nothing.
    """
    if z is None:
        z = draw_latents(cvae, DRAWS, torch.Generator().manual_seed(SEED))
    z = z.to(cvae.device)
    grafted = graft(cvae, [1] * len(cvae.n_categories))
    codes: Codes = tuple(cvae.n_categories)
    total = torch.zeros(cvae.architecture.n_features, dtype=torch.float64, device=z.device)
    squares, first = total.clone(), None
    at_once = judged_at_once(len(total))
    for start in range(0, len(z), at_once):
        roots = grafted.expected_shares(z[start : start + at_once], codes).double().sqrt()
        # Around one cell: a gene that is level then has no variance, not one of rounding.
        first = roots[0] if first is None else first
        roots = roots - first
        total += roots.sum(0)
        squares += roots.square().sum(0)
    variance = (squares / len(z) - (total / len(z)).square()).clamp(min=0).cpu()
    if not variance.sum() > 0:
        variance = torch.ones_like(variance)
    return tuple((variance / variance.sum()).tolist())
