"""scArches surgery (Lotfollahi et al. 2022): rows for new categories, everything else frozen.

A grafted network shares every tensor of its reference and owns its `query` rows alone, so the
reference can stay in memory for the next query, and cannot move.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cvae import CVAE
from models_store.layers import CategoryRows, ConditionalLinear

LIBRARY_PRIOR = "library_prior"

LONE_CATEGORY_SPREAD = 0.1
"""The spread assumed for a reference of one batch, which shows none of its own (decision 0011)."""


def graft(reference: CVAE, n_new: Sequence[int], *, random: torch.Generator | None = None) -> CVAE:
    """A copy of the reference with rows for new categories; only these rows require gradients.

    Args:
        reference: the frozen network; no value of it changes, and its parameters stop requiring
            gradients.
        n_new: new categories of the batch, then of each extra covariate.
        random: None starts each new row at the mean of its covariate's reference rows; a
            generator draws it as scvi-tools does, U(-1/√fan_in, 1/√fan_in) with the fan-in of the
            enlarged layer.

    Returns:
        The network in eval mode: batch norm uses the reference's running statistics and dropout
        rests, as in scvi-tools since 1.2 with today's lightning.
    """
    shared = {id(t): t for t in chain(reference.parameters(), reference.buffers())}
    grafted = copy.deepcopy(reference, shared)
    for tensor in grafted.parameters():
        tensor.requires_grad_(False)
    for _, layer in grafted.conditional_layers():
        _add_rows(layer, n_new, random)
    for table in grafted.batch_tables():
        mean = table.reference.detach().mean(0)
        table.query = nn.Parameter(mean.expand(n_new[0], -1).clone())
    prior = grafted.library_prior
    grafted.library_prior = torch.cat([prior, prior.mean(0, keepdim=True).expand(n_new[0], 2)])
    return grafted.eval()


def _add_rows(
    linear: ConditionalLinear, n_new: Sequence[int], random: torch.Generator | None
) -> None:
    tables = list(linear.covariate_rows())
    fan_in = linear.W_x.shape[0]
    fan_in += sum(_width(table, new) for table, new in zip(tables, n_new, strict=False))
    for table, new in zip(tables, n_new, strict=False):
        if random is None:
            start = table.mean_reference.expand(new, -1).clone()
        else:
            draw = torch.rand(new, linear.b.shape[0], generator=random)
            start = ((2 * draw - 1) * fan_in**-0.5).to(linear.b.device)
        table.query = nn.Parameter(start)


def _width(table: CategoryRows, new: int) -> int:
    """Columns of the equivalent one-hot: scvi-tools gives a lone category none."""
    total = table.reference.shape[0] + new
    return total if total > 1 else 0


def query_parameters(grafted: CVAE) -> dict[str, nn.Parameter]:
    """What a mapping trains, by path: the `query` rows that surgery added, and nothing else."""
    return {name: p for name, p in grafted.named_parameters() if p.requires_grad and p.numel() > 0}


def query_weights(grafted: CVAE) -> dict[str, Float[Tensor, "new width"]]:
    """The small delta that a mapping stores: query rows and the priors of its batches."""
    weights = {name: p.detach().clone() for name, p in query_parameters(grafted).items()}
    if grafted.library_is_latent:
        weights[LIBRARY_PRIOR] = grafted.library_prior[grafted.n_categories[0] :].clone()
    return weights


def load_query_weights(grafted: CVAE, weights: Mapping[str, Tensor]) -> None:
    """Put stored query weights into a grafted network of matching size.

    Raises:
        ValueError: names or shapes differ from what surgery made.
    """
    expected = query_weights(grafted)
    shapes = {name: tuple(t.shape) for name, t in weights.items()}
    if shapes != {name: tuple(t.shape) for name, t in expected.items()}:
        raise ValueError(f"query weights do not fit this reference: {shapes}")
    parameters = query_parameters(grafted)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
        if LIBRARY_PRIOR in weights:
            grafted.library_prior[grafted.n_categories[0] :] = weights[LIBRARY_PRIOR]


def join_query_weights(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The weights of batches that were fitted on their own, stacked in their order."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def penalised_rows(grafted: CVAE) -> Iterator[tuple[Tensor, Float[Tensor, " width"], float]]:
    """Each table of query rows with the mean and the spread of its reference rows.

    They make a Gaussian prior for new rows, as wide as the reference's own batches differ.
    """
    for table in grafted.category_rows().values():
        if table.query.numel():
            yield table.query, table.mean_reference, table.spread or LONE_CATEGORY_SPREAD
    for of_batches in grafted.batch_tables():
        if of_batches.query.numel():
            rows = of_batches.reference.detach()
            spread = float((rows - rows.mean(0)).square().mean().sqrt())
            yield of_batches.query, rows.mean(0), spread or 1.0
