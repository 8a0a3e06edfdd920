"""Encoders and decoders: stacks of conditional layers with the outputs that end them.

Notation as in `layers`: c cells, g genes, h hidden units, z latent, k categories.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Posterior
from models_store.layers import Activation, Code, Codes, FullyConnected, look_up
from models_store.manifest import Architecture

VARIANCE_EPS = 1e-4


class NormsAsked(TypedDict):
    """Which norms follow a layer."""

    batch_norm: bool
    layer_norm: bool


def norms(a: Architecture, side: Literal["encoder", "decoder"]) -> NormsAsked:
    """Which norms follow the layers of an encoder or a decoder."""
    return {
        "batch_norm": a.batch_norm in (side, "both"),
        "layer_norm": a.layer_norm in (side, "both"),
    }


class Encoder(nn.Module):
    """q(n | x, s): FCLayers, then m = linear(h) and v = exp(linear(h)) + 1e-4.

    Args:
        n_in: width of its input.
        n_out: dimensions of what it tells.
        a: the architecture, for all that is not said here.
        n_layers: hidden layers.
        n_categories: categories of the covariates that it sees.
        activation: of its hidden layers.
        variance_eps: what is added to v; None: 1e-4.
        inject_deeply: whether deeper layers see covariates; None: as the architecture says.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        a: Architecture,
        *,
        n_layers: int,
        n_categories: Sequence[int],
        activation: Activation = "relu",
        variance_eps: float | None = None,
        inject_deeply: bool | None = None,
    ) -> None:
        super().__init__()
        self.variance_eps = VARIANCE_EPS if variance_eps is None else variance_eps
        deeply = a.deeply_inject_covariates if inject_deeply is None else inject_deeply
        self.layers = FullyConnected(
            n_in,
            a.n_hidden,
            n_layers=n_layers,
            n_categories=n_categories,
            inject_deeply=deeply,
            **norms(a, "encoder"),
            dropout_rate=a.dropout_rate,
            activation=activation,
        )
        self.mean = nn.Linear(a.n_hidden, n_out)
        self.log_variance = nn.Linear(a.n_hidden, n_out)

    def forward(self, projection: Float[Tensor, "c h"], codes: Codes) -> Posterior:
        """From the first layer's projection to the posterior."""
        h = self.layers.finish(projection, codes)
        return Posterior(self.mean(h), self.log_variance(h).exp() + self.variance_eps)


class SizeEncoder(nn.Module):
    """One number of each cell from its counts, without dropout: a log library, or a depth."""

    def __init__(
        self,
        n_in: int,
        a: Architecture,
        n_categories: Sequence[int],
        *,
        inject_deeply: bool,
        normed: NormsAsked,
    ) -> None:
        super().__init__()
        self.layers = FullyConnected(
            n_in,
            a.n_hidden,
            n_layers=a.n_layers,
            n_categories=n_categories,
            inject_deeply=inject_deeply,
            **normed,
            dropout_rate=0.0,
            activation="leaky_relu",
        )
        self.output = nn.Linear(a.n_hidden, 1)

    def forward(self, projection: Float[Tensor, "c h"], codes: Codes) -> Float[Tensor, "c 1"]:
        """From the first layer's projection, before any activation."""
        return torch.as_tensor(self.output(self.layers.finish(projection, codes)))


def decoder_layers(
    n_in: int,
    a: Architecture,
    n_categories: Sequence[int],
    *,
    activation: Activation = "relu",
    dropout_rate: float = 0.0,
) -> FullyConnected:
    """The hidden layers of a decoder."""
    return FullyConnected(
        n_in,
        a.n_hidden,
        n_layers=a.n_layers_decoder or a.n_layers,
        n_categories=n_categories,
        inject_deeply=a.deeply_inject_covariates,
        **norms(a, "decoder"),
        dropout_rate=dropout_rate,
        activation=activation,
    )


class Decoder(nn.Module):
    """z and covariates to the raw outputs of the likelihood; no dropout.

    `n_out`: features that it decodes, all of the architecture's unless said.
    """

    def __init__(
        self,
        n_in: int,
        a: Architecture,
        n_categories: Sequence[int],
        *,
        activation: Activation = "relu",
        n_out: int | None = None,
    ) -> None:
        super().__init__()
        n_out = n_out or a.n_features
        self.layers = decoder_layers(n_in, a, n_categories, activation=activation)
        self.scale = nn.Linear(a.n_hidden, n_out)
        self.pi = nn.Linear(a.n_hidden, n_out) if a.likelihood == "zinb" else None
        self.log_theta = nn.Linear(a.n_hidden, n_out) if a.dispersion == "gene-cell" else None

    @property
    def n_outputs(self) -> int:
        """Numbers that the output layers give for each cell."""
        heads = (self.scale, self.pi, self.log_theta)
        return sum(head.out_features for head in heads if head is not None)


class Dispersion(nn.Module):
    """log θ of each gene, one row for all cells, for each batch, or for each label.

    scvi-tools stores the transpose (`px_r`). New batches start at the mean row and learn; cells
    of an unknown label use the mean row as it is.
    """

    def __init__(self, n_rows: int, n_genes: int) -> None:
        super().__init__()
        self.reference = nn.Parameter(torch.randn(n_rows, n_genes))
        self.query = nn.Parameter(torch.empty(0, n_genes))

    def forward(self, code: Code) -> Float[Tensor, "*c g"]:
        """log θ of each cell, by the row that its code names."""
        return look_up(self.reference, self.query, code)
