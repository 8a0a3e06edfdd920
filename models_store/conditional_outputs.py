"""Output layers that see covariates: their products, and what their new rows learn from."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.layers import CategoryRows, Codes, ConditionalLinear, look_up
from models_store.row_sums import RowSums

Sums = list[Float[Tensor, "new width"]]
"""For each table of a layer that learns, the gradient of its query rows."""


class ConditionalOutput:
    """One layer. A code that all cells share is a part of its bias, others are added by cell."""

    def __init__(self, linear: ConditionalLinear) -> None:
        self.W, self.b = linear.W_x.detach().contiguous(), linear.b.detach()
        self.W_T = self.W.T.contiguous()
        self.tables = list(linear.covariate_rows())

    def bias(self, codes: Codes) -> Float[Tensor, " width"]:
        """The bias with the rows of codes that all cells share."""
        b = self.b
        for rows, code in zip(self.tables, codes, strict=False):
            if isinstance(code, int):
                b = b + look_up(rows.reference, rows.query, code).detach()
        return b

    def add_rows(self, product: Float[Tensor, "c width"], codes: Codes) -> None:
        """Add the rows of codes that differ by cell."""
        for rows, code in zip(self.tables, codes, strict=False):
            if not isinstance(code, int):
                product += look_up(rows.reference, rows.query, code).detach()

    def forward(self, h: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c width"]:
        """The whole layer."""
        product = torch.addmm(self.bias(codes), h, self.W)
        self.add_rows(product, codes)
        return product

    def learning(self, codes: Codes) -> list[tuple[CategoryRows, int]]:
        """The tables with rows to learn, and which covariate each is of."""
        return [(rows, k) for k, rows in enumerate(self.tables[: len(codes)]) if rows.query.numel()]

    def sums(self, g: Float[Tensor, "c width"], codes: Codes) -> Sums:
        """The gradients of the query rows from that of the layer's output."""
        found = RowSums(1.0)
        for rows, k in self.learning(codes):
            found.add(rows, codes[k], g)
        return list(found.gradients.values())

    def keep(self, sums: Sums, codes: Codes, found: RowSums) -> None:
        """Put the sums where the other gradients are."""
        for (rows, _), total in zip(self.learning(codes), sums, strict=True):
            found.gradients[rows.query] = total * found.scale


def added(parts: Sequence[Sums]) -> Sums:
    """The sums over parts of the cells, added up."""
    first, *others = parts
    for other in others:
        first = [mine + theirs for mine, theirs in zip(first, other, strict=True)]
    return first
