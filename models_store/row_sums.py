"""Gradients of the query rows: what each cell was given, summed over the cells of a category."""

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.coders import Dispersion
from models_store.layers import CategoryRows, Code

Gradients = dict[Tensor, Tensor]
"""By the query rows that learn, each keyed by its parameter."""


class RowSums:
    """Gradients as they are found, each summed over the cells of its category and scaled."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.gradients: Gradients = {}

    def add(
        self,
        table: CategoryRows | Dispersion,
        code: Code,
        g: Float[Tensor, "c width"],
        total: Float[Tensor, " width"] | None = None,
    ) -> None:
        """The gradient of a table's query rows from that of what each cell was given.

        total: the sum of g over all cells, where it is known.
        """
        n_reference, new = len(table.reference), len(table.query)
        if not isinstance(code, int):
            # A product, since adding by index is not the same bytes twice on a GPU.
            ours = torch.arange(n_reference, n_reference + new, device=code.device)
            rows = (ours[:, None] == code[None, :]).to(g.dtype) @ g
            self.gradients[table.query] = rows.mul_(self.scale)
            return
        whole = (g.sum(0) if total is None else total) * self.scale
        if new == 1 and code == n_reference:  # as a fit of one batch alone has it
            self.gradients[table.query] = whole[None]
            return
        rows = torch.zeros_like(table.query)
        if code >= n_reference:
            rows[code - n_reference] = whole
        self.gradients[table.query] = rows
