"""Layers that see categorical covariates, with the weights of each origin kept apart.

Notation, here and in the other files of this package:
    c  cells          g  genes           h  hidden units (n_hidden)
    z  latent (n_latent)                 k  categories of one covariate
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models_store.narrow_products import affine
from models_store.sparse_counts import is_sparse, product

Code = Int[Tensor, " c"] | int
"""The category of every cell; one number where all cells share it, which is cheaper."""
Codes = Sequence[Code]
"""For each categorical covariate the code of the cells; the batch comes first."""

Activation = Literal["relu", "leaky_relu"]
NEGATIVE_SLOPES: dict[Activation, float] = {"relu": 0.0, "leaky_relu": 0.01}
"""What each activation multiplies a negative number by."""

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01
LAYER_NORM_EPS = 1e-5


def look_up(
    reference: Float[Tensor, "k width"], query: Float[Tensor, "new width"], code: Code
) -> Float[Tensor, "*c width"]:
    """Rows of the reference's table and of the query's table that follows it."""
    if not isinstance(code, int):
        return nn.functional.embedding(code, torch.cat([reference, query]))
    n = len(reference)
    return reference[code] if code < n else query[code - n]


class CategoryRows(nn.Module):
    """One row of `width` numbers for each category: what a category adds to a layer.

    `reference` holds the categories of the training data, `query` those added by surgery, which
    follow them in code order. Only `query` learns in a mapping. A covariate with one reference
    category has nothing to tell cells apart by, so its row is a constant zero.
    """

    reference: Tensor  # (k, width)
    query: Tensor  # (new k, width)

    def __init__(self, n_categories: int, width: int) -> None:
        super().__init__()
        if n_categories > 1:
            self.reference = nn.Parameter(torch.empty(n_categories, width))
        else:
            self.register_buffer("reference", torch.zeros(1, width))
        self.register_parameter("query", nn.Parameter(torch.empty(0, width)))

    def forward(self, code: Code) -> Float[Tensor, "*c width"]:
        """The row of each cell's category, by look-up."""
        return look_up(self.reference, self.query, code)

    @property
    def mean_reference(self) -> Float[Tensor, " width"]:
        """Where a new category starts, and what its penalty pulls it towards."""
        return self.reference.detach().mean(0)

    @property
    def spread(self) -> float:
        """Root mean square deviation of the reference rows from their mean; 0 for one row."""
        return float((self.reference.detach() - self.mean_reference).square().mean().sqrt())


class ConditionalLinear(nn.Module):
    """y = x W_x + Σ_covariates (row of the cell's category) + b.

    Equal to a linear layer on [x | one-hot of each covariate], written so that the part that a
    reference froze (`W_x`, `b`, reference rows) and the part that a query learns are separate
    tensors: the gradient needs no mask and weight decay cannot move what is frozen.
    """

    def __init__(self, n_in: int, n_out: int, n_categories: Sequence[int]) -> None:
        super().__init__()
        self.W_x = nn.Parameter(torch.empty(n_in, n_out))
        self.b = nn.Parameter(torch.empty(n_out))
        self.covariates = nn.ModuleList(CategoryRows(k, n_out) for k in n_categories)
        self._draw()

    def _draw(self) -> None:
        """U(-1/√fan_in, 1/√fan_in) with the fan-in of the equivalent wide layer."""
        rows = [r.reference for r in self.covariate_rows() if r.reference.shape[0] > 1]
        fan_in = self.W_x.shape[0] + sum(r.shape[0] for r in rows)
        bound = fan_in**-0.5
        with torch.no_grad():
            for weight in (self.W_x, *rows, self.b):
                weight.uniform_(-bound, bound)

    def covariate_rows(self) -> Iterator[CategoryRows]:
        """The tables of the covariates that this layer sees, in covariate order."""
        for rows in self.covariates:
            assert isinstance(rows, CategoryRows)
            yield rows

    def expression(self, x: Float[Tensor, "c n_in"]) -> Float[Tensor, "c n_out"]:
        """The part that no query weight can change: x W_x + b."""
        if is_sparse(x):
            return product(x, self.W_x) + self.b
        return affine(x, self.W_x.T, self.b)

    def add_covariates(
        self, expression: Float[Tensor, "c n_out"], codes: Codes
    ) -> Float[Tensor, "c n_out"]:
        """Add the row of each cell's category, covariate by covariate."""
        y = expression
        for rows, code in zip(self.covariate_rows(), codes, strict=False):
            y = y + rows(code)
        return y

    def forward(self, x: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c n_out"]:
        """The whole layer."""
        return self.add_covariates(self.expression(x), codes)


class Block(nn.Module):
    """What follows each linear layer: batch norm, layer norm, ReLU, dropout, each if asked.

    The ReLU is leaky where `activation` says so.
    """

    def __init__(
        self,
        n_hidden: int,
        *,
        batch_norm: bool,
        layer_norm: bool,
        dropout_rate: float,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.batch_norm = (
            nn.BatchNorm1d(n_hidden, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
            if batch_norm
            else None
        )
        self.layer_norm = layer_norm
        self.dropout_rate = dropout_rate
        self.negative_slope = NEGATIVE_SLOPES[activation]

    def forward(self, y: Float[Tensor, "c h"]) -> Float[Tensor, "c h"]:
        """Normalise, activate, drop out, in this order."""
        if self.batch_norm is not None:
            y = self.batch_norm(y)
        if self.layer_norm:  # without an affine part, so it has no weights
            y = nn.functional.layer_norm(y, y.shape[-1:], eps=LAYER_NORM_EPS)
        slope = self.negative_slope
        y = nn.functional.leaky_relu(y, slope) if slope else torch.relu(y)
        return nn.functional.dropout(y, self.dropout_rate) if self.training else y


class FullyConnected(nn.Module):
    """`n_layers` conditional layers, each followed by its block (scvi-tools' FCLayers).

    Covariates enter the first layer, and the deeper ones too if `inject_deeply`.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        *,
        n_layers: int,
        n_categories: Sequence[int],
        inject_deeply: bool,
        batch_norm: bool,
        layer_norm: bool,
        dropout_rate: float,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.linears = nn.ModuleList(
            ConditionalLinear(
                n_in if i == 0 else n_hidden,
                n_hidden,
                n_categories if i == 0 or inject_deeply else (),
            )
            for i in range(n_layers)
        )
        self.blocks = nn.ModuleList(
            Block(
                n_hidden,
                batch_norm=batch_norm,
                layer_norm=layer_norm,
                dropout_rate=dropout_rate,
                activation=activation,
            )
            for _ in range(n_layers)
        )

    def project(self, x: Float[Tensor, "c n_in"]) -> Float[Tensor, "c h"]:
        """The first layer's share of the input: constant while the reference is frozen."""
        first = self.linears[0]
        assert isinstance(first, ConditionalLinear)
        return first.expression(x)

    def finish(self, projection: Float[Tensor, "c h"], codes: Codes) -> Float[Tensor, "c h"]:
        """From the first layer's projection to the last hidden layer."""
        first = self.linears[0]
        assert isinstance(first, ConditionalLinear)
        y = self.blocks[0](first.add_covariates(projection, codes))
        for linear, block in zip(list(self.linears)[1:], list(self.blocks)[1:], strict=True):
            y = block(linear(y, codes))
        return torch.as_tensor(y)

    def forward(self, x: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c h"]:
        """From the input to the last hidden layer."""
        return self.finish(self.project(x), codes)
