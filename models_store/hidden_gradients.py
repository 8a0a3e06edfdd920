"""The hidden layers of an encoder or decoder: `forward`, then `backward` for the same cells."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.block_kernels import Affine, block_backward, block_forward, has_kernels
from models_store.layers import (
    LAYER_NORM_EPS,
    Block,
    Codes,
    ConditionalLinear,
    FullyConnected,
    look_up,
)
from models_store.row_sums import RowSums


class HiddenLayers:
    """Conditional layers, each followed by its block, in eval mode.

    rows of a layer   Σ_cells ∂/∂y                 y = x W_x + row + b
    its input         (∂/∂y) W_xᵀ
    """

    def __init__(self, layers: FullyConnected) -> None:
        linears = [cast(ConditionalLinear, linear) for linear in layers.linears]
        # Listed once: modules find their parts by name, which takes as long as a small product.
        self.weights = [linear.W_x.detach() for linear in linears]
        self.biases = [linear.b.detach() for linear in linears]
        self.tables = [list(linear.covariate_rows()) for linear in linears]
        self.learns = any(rows.query.numel() for tables in self.tables for rows in tables)
        kind = FusedNorms if has_kernels(self.biases[0]) else Norms
        width = len(self.biases[0])
        self.norms = [kind(cast(Block, block), width) for block in layers.blocks]
        self.nothing = torch.zeros_like(self.biases[0])

    @property
    def first(self) -> Float[Tensor, "n_in h"]:
        """The first layer's W_x."""
        return self.weights[0]

    def forward(
        self, y: Float[Tensor, "c h"], codes: Codes, *, with_bias: bool
    ) -> Float[Tensor, "c h"]:
        """From the first layer's product with W_x to the last hidden layer.

        with_bias: the product has its bias, as a projection does.
        """
        h = y
        for i, norms in enumerate(self.norms):
            product = torch.mm(h, self.weights[i]) if i else y
            shift = self.nothing if with_bias and not i else self.biases[i]
            for rows, code in zip(self.tables[i], codes, strict=False):
                shift = shift + look_up(rows.reference, rows.query, code)
            h = norms.forward(product, shift)
        return h

    def backward(
        self, g: Float[Tensor, "c h"], codes: Codes, found: RowSums
    ) -> Float[Tensor, "c h"]:
        """From the last hidden layer's gradient to that of what `forward` was given."""
        for i in reversed(range(len(self.norms))):
            g, total = self.norms[i].backward(g)
            for rows, code in zip(self.tables[i], codes, strict=False):
                if rows.query.numel():
                    found.add(rows, code, g, total)
            if i:
                g = torch.mm(g, self.weights[i].T)
        return g


class Norms:
    """Batch norm by running statistics, layer norm and ReLU of one block, each if it has them."""

    def __init__(self, block: Block, width: int) -> None:
        self.layer_norm, norm = block.layer_norm, block.batch_norm
        self.leak = block.negative_slope
        self.affine = Affine(torch.ones(width), torch.zeros(width))
        self.scaled = norm is not None
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            slope = (norm.weight * (norm.running_var + norm.eps).rsqrt()).detach()
            self.affine = Affine(slope, (norm.bias - norm.running_mean * slope).detach())

    def forward(
        self, product: Float[Tensor, "c h"], shift: Float[Tensor, "*#c h"]
    ) -> Float[Tensor, "c h"]:
        """From x W_x to the next layer's input; shift: the bias and the rows of the categories."""
        y = product + shift
        if self.scaled:
            y = torch.addcmul(self.affine.offset, y, self.affine.slope)
        self.y = y
        if self.layer_norm:
            shape = y.shape[-1:]
            y, self.mean, self.rstd = torch.native_layer_norm(y, shape, None, None, LAYER_NORM_EPS)
        leak = self.leak
        self.h = torch.nn.functional.leaky_relu(y, leak) if leak else torch.relu(y)
        return self.h

    def backward(
        self, g: Float[Tensor, "c h"]
    ) -> tuple[Float[Tensor, "c h"], Float[Tensor, " h"] | None]:
        """The gradient by the product, and its sum over the cells if that came with it."""
        if self.leak:  # which keeps the sign, so that what came out tells what went in
            g = torch.ops.aten.leaky_relu_backward(g, self.h, self.leak, self_is_result=True)
        else:
            g = torch.ops.aten.threshold_backward(g, self.h, 0)
        if self.layer_norm:
            norm_backward = torch.ops.aten.native_layer_norm_backward
            shape, only_input = self.y.shape[-1:], (True, False, False)
            g = norm_backward(g, self.y, shape, self.mean, self.rstd, None, None, only_input)[0]
        return (g * self.affine.slope if self.scaled else g), None


class FusedNorms(Norms):
    """The same by the kernels of the CPU."""

    def forward(
        self, product: Float[Tensor, "c h"], shift: Float[Tensor, "*#c h"]
    ) -> Float[Tensor, "c h"]:
        """As above."""
        self.passed = block_forward(
            product, shift, self.affine, layer_norm=self.layer_norm, leak=self.leak
        )
        return self.passed.h

    def backward(
        self, g: Float[Tensor, "c h"]
    ) -> tuple[Float[Tensor, "c h"], Float[Tensor, " h"] | None]:
        """As above; the sum comes with it."""
        return block_backward(
            g, self.passed, self.affine, layer_norm=self.layer_norm, leak=self.leak
        )
