"""A posterior N(m, v) that an encoder gives: `draw` from it, then `backward` for the same cells.

    m    g + w m                        z = m + √v ε,  KL = ½ Σ (v + m² - 1 - log v)
    v    g ε / (2√v) + ½ w (1 - 1/v)    v = exp(·) + the encoder's own 1e-4 or 0

with g the gradient of the draw, w the KL weight and ε the noise.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.block_kernels import has_kernels
from models_store.coders import Encoder
from models_store.hidden_gradients import HiddenLayers
from models_store.layers import Codes
from models_store.posterior_kernels import fused_draw, fused_draw_gradient
from models_store.row_sums import RowSums

KLWeight = float | Float[Tensor, ""]


class PosteriorGradients:
    """Of one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self.layers = HiddenLayers(encoder.layers)
        self.learns = self.layers.learns
        # Both outputs by one product.
        heads = (encoder.mean, encoder.log_variance)
        self.W = torch.cat([head.weight for head in heads]).detach()
        self.b = torch.cat([head.bias for head in heads]).detach()
        self.fused, self.eps = has_kernels(self.b), encoder.variance_eps
        self.standard = self.b.new_tensor([[0.0, 1.0]])

    def draw(
        self, projection: Float[Tensor, "c h"], codes: Codes, noise: Float[Tensor, "c n"]
    ) -> Float[Tensor, "c n"]:
        """m + √v · noise."""
        h = self.layers.forward(projection, codes, with_bias=True)
        self.noise, product = noise, torch.mm(h, self.W.T)
        if self.fused:
            self.z, self.m, self.exp = fused_draw(product, self.b, noise, self.eps)
        else:
            self.m, log_v = (product + self.b).chunk(2, dim=-1)
            self.exp = log_v.exp()
            self.z = torch.addcmul(self.m, (self.exp + self.eps).sqrt(), noise)
        return self.z

    def backward(
        self,
        g: Float[Tensor, "c n"],
        kl_weight: KLWeight,
        prior: Float[Tensor, "*#c 2"] | None,
        codes: Codes,
        found: RowSums,
        *,
        g_m: Float[Tensor, "c n"] | None = None,
    ) -> None:
        """From the gradient of the draw; prior: mean and variance, None for N(0, 1).

        g_m: the gradient of what looks at m beside the draw.
        """
        prior = self.standard if prior is None else prior
        if self.fused:
            drawn = (self.noise, self.m, self.exp)
            g_out = fused_draw_gradient(g, drawn, float(kl_weight), prior, self.eps)
        else:
            g_out = self._by_definition(g, kl_weight, prior)
        if g_m is not None:
            g_out[:, : g.shape[1]] += g_m
        self.layers.backward(torch.mm(g_out, self.W), codes, found)

    def _by_definition(
        self, g: Float[Tensor, "c n"], kl_weight: KLWeight, prior: Float[Tensor, "*#c 2"]
    ) -> Float[Tensor, "c 2n"]:
        mean, precision = prior[:, :1], 1 / prior[:, 1:]
        v = self.exp + self.eps
        to_m = g + kl_weight * (self.m - mean) * precision
        to_v = 0.5 * (g * self.noise / v.sqrt() + kl_weight * (precision - 1 / v))
        return torch.cat([to_m, to_v * self.exp], dim=-1)
