"""How query cells lie to reference cells: how far among them, and how far from them."""

import torch
from jaxtyping import Float
from torch import Tensor

NEIGHBOURS = 30
JUDGED_AT_ONCE = 512


def mixing(
    reference: Float[Tensor, "r z"], query: Float[Tensor, "q z"], *, judged: int | None = None
) -> float:
    """The share of reference cells around query cells, relative to chance.

    1: the two lie as if they were one population; 0: no query cell has a reference cell near it.
    Above 1, query cells are further from each other than from the reference.

    Args:
        reference: latents.
        query: latents of at least one cell.
        judged: only around so many query cells, the first ones; None: around all.

    Returns:
        The mean over these cells of the share among the 30 nearest others in both together, divided
        by r / (r + q - 1).
    """
    together = torch.cat([reference, query]).double()
    n_others = len(together) - 1
    near, of_reference, n_judged = (
        min(NEIGHBOURS, n_others),
        0,
        min(judged or len(query), len(query)),
    )
    for start in range(0, n_judged, JUDGED_AT_ONCE):
        cells = torch.arange(start, min(start + JUDGED_AT_ONCE, n_judged), device=query.device)
        own = len(reference) + cells
        distance = _distances(together[own], together)
        distance[cells - start, own] = torch.inf
        nearest = distance.topk(near, largest=False).indices
        of_reference += int((nearest < len(reference)).sum())
    return of_reference / (near * n_judged) * n_others / len(reference)


def remoteness(
    reference: Float[Tensor, "r z"], query: Float[Tensor, "q z"], *, judged: int | None = None
) -> float:
    """The mean distance of query cells to reference cells near them.

    Args:
        reference: latents of at least one cell.
        query: latents of at least one cell.
        judged: only of so many query cells, the first ones; None: of all.

    Returns:
        The Euclidean distance to the 30 nearest, in units of the latent, in the mean over these
        and over cells.
    """
    cells, among = query[:judged].double(), reference.double()
    near, total = min(NEIGHBOURS, len(among)), 0.0
    for some in torch.split(cells, JUDGED_AT_ONCE):
        total += float(_distances(some, among).topk(near, largest=False).values.sum())
    return total / (near * len(cells))


def _distances(some: Float[Tensor, "s z"], among: Float[Tensor, "a z"]) -> Float[Tensor, "s a"]:
    """Products would be faster and lose the digits that tell near cells apart."""
    return torch.cdist(some, among, compute_mode="donot_use_mm_for_euclid_dist")
