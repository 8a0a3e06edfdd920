"""The gradient of the training loss by the query weights, written out.

In a grafted network only the rows of new categories learn, so few derivatives are needed, and no
autograd graph is kept: going backward is one product with each frozen weight matrix.

    rows of a layer   Σ_cells ∂/∂y                 y = x W_x + row + b
    z                 g = (∂/∂y) W_xᵀ              of the decoder's first layer
    m                 g + w m                      z = m + √v ε,  KL = ½ Σ (v + m² - 1 - log v)
    v                 g ε / (2√v) + ½ w (1 - 1/v)  v = exp(·) + 1e-4

What the labels of SCANVI add to g, and to m by the classifier, is as small as the latent and comes
from autograd. Its latent has no KL against N(0, I) but the entropy alone: m adds nothing, v adds
-½/v at any KL weight, as of a KL against a prior that is flat.

Notation as in `layers` and `scvi`; w is the KL weight, ε the noise.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.cells import Cells, Noise, Projection, select_cells
from models_store.coders import VARIANCE_EPS, Encoder
from models_store.layers import (
    LAYER_NORM_EPS,
    Block,
    Code,
    Codes,
    ConditionalLinear,
    FullyConnected,
)
from models_store.reconstruction import reconstruction_gradients
from models_store.scanvi import SCANVI
from models_store.scvi import SCVI

Gradients = dict[Tensor, Tensor]
"""By the query rows that learn, each keyed by its parameter."""


FLAT = torch.tensor([[0.0, torch.inf]])
"""Mean and variance of a prior that pulls nowhere."""

SMALLEST_PART = 200_000
"""Outputs of the decoder that are worth a thread of their own."""


class QueryGradients:
    """Gradients for one grafted network in eval mode (see `surgery.graft`).

    Args:
        grafted: the network.
        threads: how many may share the widest layer, where nearly all the work is. Each takes some
            of the cells from the last hidden layer to the likelihood and back.
    """

    def __init__(self, grafted: SCVI, *, threads: int = 1) -> None:
        assert not grafted.training
        self.cvae, self.threads = grafted, threads
        self.others = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self.z_encoder = _Encoder(grafted.z_encoder)
        library = grafted.library_encoder
        self.library_encoder = None if library is None else _Encoder(library)
        self.decoder = _Layers(grafted.decoder.layers)

    @torch.no_grad()
    def __call__(
        self, cells: Cells, projection: Projection, noise: Noise, kl_weight: float
    ) -> Gradients:
        """Gradients of `SCVI.training_loss`, the mean loss of the cells.

        Args:
            cells: a minibatch.
            projection: theirs, by `SCVI.project`.
            noise: standard normal draws.
            kl_weight: weight of the KL divergence of z.
        """
        cvae, found = self.cvae, _Sums(1 / len(cells.x))
        z = self.z_encoder.draw(projection.z, cells.codes, noise.z)
        log_library = projection.log_library
        if self.library_encoder is not None:
            assert projection.library is not None
            assert noise.library is not None
            log_library = self.library_encoder.draw(projection.library, cells.codes, noise.library)
        sample = torch.softmax(z, dim=-1) if self._on_simplex else z
        first = self.decoder.first
        seen = sample if cells.continuous is None else torch.cat([sample, cells.continuous], dim=-1)
        h = self.decoder.forward(first.expression(seen), cells.codes)
        g_h, g_library = self._reconstruct(h, log_library, cells, found)
        g_y = self.decoder.backward(g_h, cells.codes, found)
        if self.z_encoder.learns:
            g_z = (g_y @ first.W_x.T)[:, : z.shape[1]]
            if self._on_simplex:
                g_z = sample * (g_z - (sample * g_z).sum(-1, keepdim=True))
            self._backward_z(g_z, cells, noise, kl_weight, found)
        if self.library_encoder is not None and self.library_encoder.learns:
            prior = cvae.library_prior[cells.codes[0]].view(-1, 2)
            weight = kl_weight if isinstance(cvae, SCANVI) else 1.0
            self.library_encoder.backward(g_library, weight, prior, cells.codes, found)
        return found.gradients

    def _backward_z(
        self,
        g_z: Float[Tensor, "c z"],
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        found: "_Sums",
    ) -> None:
        cvae, encoder = self.cvae, self.z_encoder
        if isinstance(cvae, SCANVI):
            z, m = encoder.z, encoder.m
            of_labels, g_m = cvae.label_gradients(z, m, noise, cells.labels, kl_weight)
            encoder.backward(g_z + of_labels, 1.0, FLAT.to(z), cells.codes, found, g_m=g_m)
        else:
            encoder.backward(g_z, kl_weight, None, cells.codes, found)

    @property
    def _on_simplex(self) -> bool:
        return self.cvae.architecture.latent_distribution == "ln"

    def _reconstruct(
        self,
        h: Float[Tensor, "c h"],
        log_library: Float[Tensor, "c 1"],
        cells: Cells,
        found: "_Sums",
    ) -> tuple[Float[Tensor, "c h"], Float[Tensor, "c 1"]]:
        """Gradients of Σ -log p by the last hidden layer and by the log library."""
        cvae, n_outputs = self.cvae, self.cvae.decoder.n_outputs
        n_parts = max(1, min(self.threads, len(h) * n_outputs // SMALLEST_PART))
        if self.others is None or n_parts == 1:
            g = self._part(h, log_library, cells)
        else:
            cuts = [len(h) * i // n_parts for i in range(n_parts + 1)]
            ranges = [slice(a, b) for a, b in pairwise(cuts)]
            parts = [(h[r], log_library[r], select_cells(cells, r)) for r in ranges]
            waiting = [self.others.submit(self._part, *part) for part in parts[1:]]
            g = _joined([self._part(*parts[0]), *(each.result() for each in waiting)])
        if g.log_theta is not None:
            table = cvae.dispersion
            found.add(table.query, len(table.reference), cells.codes[0], g.log_theta)
        return g.h, g.log_library

    @torch.no_grad()  # each thread has its own mode
    def _part(
        self, h: Float[Tensor, "c h"], log_library: Float[Tensor, "c 1"], cells: Cells
    ) -> "_HeadGradients":
        cvae, decoder = self.cvae, self.cvae.decoder
        by_batch = cvae.architecture.dispersion == "gene-batch"
        wants_theta = by_batch or decoder.log_theta is not None
        out = cvae.emit(h, log_library, cells)
        g = reconstruction_gradients(cvae.head, cells.x, out, wants_theta=wants_theta)
        g_h = g.logits @ decoder.scale.weight
        if decoder.pi is not None and g.pi is not None:
            g_h.addmm_(g.pi, decoder.pi.weight)
        if decoder.log_theta is not None and g.log_theta is not None:
            g_h.addmm_(g.log_theta, decoder.log_theta.weight)
        return _HeadGradients(g_h, g.log_library, g.log_theta if by_batch else None)


@dataclass(frozen=True)
class _HeadGradients:
    """Of Σ -log p by the last hidden layer, the log library and each batch's log θ."""

    h: Float[Tensor, "c h"]
    log_library: Float[Tensor, "c 1"]
    log_theta: Float[Tensor, "c g"] | None


def _joined(parts: Sequence[_HeadGradients]) -> _HeadGradients:
    thetas = [part.log_theta for part in parts if part.log_theta is not None]
    return _HeadGradients(
        torch.cat([part.h for part in parts]),
        torch.cat([part.log_library for part in parts]),
        torch.cat(thetas) if thetas else None,
    )


class _Sums:
    """Gradients as they are found, each summed over the cells of its category and scaled."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.gradients: Gradients = {}

    def add(
        self,
        query: Float[Tensor, "new width"],
        n_reference: int,
        code: Code,
        g: Float[Tensor, "c width"],
    ) -> None:
        """The gradient of a table's query rows from that of what each cell was given."""
        new = len(query)
        if isinstance(code, int):
            rows = torch.zeros_like(query)
            if code >= n_reference:
                torch.sum(g, 0, out=rows[code - n_reference])
        else:  # a product, since adding by index is not the same bytes twice on a GPU
            ours = torch.arange(n_reference, n_reference + new, device=code.device)
            rows = (ours[:, None] == code[None, :]).to(g.dtype) @ g
        self.gradients[query] = rows.mul_(self.scale)


class _Layers:
    """The hidden layers of an encoder or decoder: `forward`, then `backward` for the same cells."""

    def __init__(self, layers: FullyConnected) -> None:
        self.linears = [cast(ConditionalLinear, linear) for linear in layers.linears]
        self.norms = [_Norms(cast(Block, block)) for block in layers.blocks]
        tables = [rows for linear in self.linears for rows in linear.covariate_rows()]
        self.learns = any(rows.query.numel() for rows in tables)

    @property
    def first(self) -> ConditionalLinear:
        return self.linears[0]

    def forward(self, y: Float[Tensor, "c h"], codes: Codes) -> Float[Tensor, "c h"]:
        """From the first layer's `expression` to the last hidden layer."""
        h = y
        for i, (linear, norms) in enumerate(zip(self.linears, self.norms, strict=True)):
            h = norms.forward(linear.add_covariates(linear.expression(h) if i else y, codes))
        return h

    def backward(self, g: Float[Tensor, "c h"], codes: Codes, found: _Sums) -> Float[Tensor, "c h"]:
        """From the last hidden layer's gradient to that of what `forward` was given."""
        for i in reversed(range(len(self.linears))):
            linear = self.linears[i]
            g = self.norms[i].backward(g)
            for rows, code in zip(linear.covariate_rows(), codes, strict=False):
                if rows.query.numel():
                    found.add(rows.query, len(rows.reference), code, g)
            if i:
                g = g @ linear.W_x.T
        return g


class _Norms:
    """Batch norm by running statistics, layer norm and ReLU of one block, each if it has them."""

    def __init__(self, block: Block) -> None:
        self.layer_norm, norm = block.layer_norm, block.batch_norm
        self.slope = self.offset = None
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            self.slope = (norm.weight * (norm.running_var + norm.eps).rsqrt()).detach()
            self.offset = (norm.bias - norm.running_mean * self.slope).detach()

    def forward(self, y: Float[Tensor, "c h"]) -> Float[Tensor, "c h"]:
        if self.slope is not None and self.offset is not None:
            y = torch.addcmul(self.offset, y, self.slope)
        self.y = y
        if self.layer_norm:
            shape = y.shape[-1:]
            y, self.mean, self.rstd = torch.native_layer_norm(y, shape, None, None, LAYER_NORM_EPS)
        self.h = torch.relu(y)
        return self.h

    def backward(self, g: Float[Tensor, "c h"]) -> Float[Tensor, "c h"]:
        g = torch.ops.aten.threshold_backward(g, self.h, 0)
        if self.layer_norm:
            norm_backward = torch.ops.aten.native_layer_norm_backward
            shape, only_input = self.y.shape[-1:], (True, False, False)
            g = norm_backward(g, self.y, shape, self.mean, self.rstd, None, None, only_input)[0]
        return g if self.slope is None else g * self.slope


class _Encoder:
    """A posterior N(m, v): `draw` from it, then `backward` for the same cells."""

    def __init__(self, encoder: Encoder) -> None:
        self.layers = _Layers(encoder.layers)
        self.learns = self.layers.learns
        # Both outputs by one product.
        heads = (encoder.mean, encoder.log_variance)
        self.W = torch.cat([head.weight for head in heads]).detach()
        self.b = torch.cat([head.bias for head in heads]).detach()

    def draw(
        self, projection: Float[Tensor, "c h"], codes: Codes, noise: Float[Tensor, "c n"]
    ) -> Float[Tensor, "c n"]:
        """m + √v · noise."""
        h = self.layers.forward(projection, codes)
        self.m, log_v = torch.addmm(self.b, h, self.W.T).chunk(2, dim=-1)
        self.exp = log_v.exp()
        self.v = self.exp + VARIANCE_EPS
        self.sd, self.noise = self.v.sqrt(), noise
        self.z = torch.addcmul(self.m, self.sd, noise)
        return self.z

    def backward(
        self,
        g: Float[Tensor, "c n"],
        kl_weight: float,
        prior: Float[Tensor, "*c 2"] | None,
        codes: Codes,
        found: _Sums,
        *,
        g_m: Float[Tensor, "c n"] | None = None,
    ) -> None:
        """From the gradient of the draw; prior: mean and variance, None for N(0, 1).

        g_m: the gradient of what looks at m beside the draw.
        """
        to_m = self.m
        precision: Tensor | float = 1.0
        if prior is not None:
            precision = 1 / prior[:, 1:]
            to_m = (self.m - prior[:, :1]) * precision
        whole = torch.add(g, to_m, alpha=kl_weight)
        whole = whole if g_m is None else whole.add_(g_m)
        g_v = 0.5 * (g * self.noise / self.sd + kl_weight * (precision - 1 / self.v))
        g_h = torch.cat([whole, g_v * self.exp], dim=-1) @ self.W
        self.layers.backward(g_h, codes, found)
