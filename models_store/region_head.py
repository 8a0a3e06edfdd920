"""From the last hidden layer of a decoder of regions to their likelihood and back.

Nearly all the work of a step. The cells may be shared out among threads, as `head_gradients` does.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import take_dense
from models_store.count_rows import CountRows
from models_store.head_gradients import CELLS_AT_ONCE, HeadGradients, HeadInput
from models_store.kernels import Logits
from models_store.region_kernels import can_fuse_regions, fused_region_gradient
from models_store.regions import Openness, by_definition


class RegionHead:
    """A frozen output layer of regions, with a frozen factor for each.

    Args:
        output: the layer that gives the logits of p.
        factors: φ of each region, None for a network without.
        x: counts of all cells, in the regions alone.
        has_depth: whether the log library of its input is the logit of a depth; it is left aside
            otherwise.
    """

    def __init__(
        self, output: nn.Linear, factors: Tensor | None, x: Float[Tensor, "c r"], *, has_depth: bool
    ) -> None:
        self.weight, self.bias = output.weight.detach(), output.bias.detach()
        self.factors = None if factors is None else factors.detach()
        self.has_depth, self.n_outputs = has_depth, len(self.bias)
        self.rows = CountRows.of(x) if can_fuse_regions(x) else None
        self.x = x if self.rows is None else torch.empty(0)
        if self.rows is not None:
            # Transposed once: the product is faster for some shapes, and never slower.
            self.transposed = self.weight.T.contiguous()
            ones = torch.ones_like(self.bias)
            self.f = ones if self.factors is None else torch.sigmoid(self.factors)

    @torch.no_grad()  # each thread has its own mode
    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells."""
        if self.rows is None:
            return self._by_definition(given)
        g_h, g_depth = torch.empty_like(given.h), torch.empty_like(given.log_library)
        n = min(len(given.h), CELLS_AT_ONCE)
        product = torch.empty(n, self.n_outputs)
        for start in range(0, len(given.h), n):
            at = slice(start, start + n)
            g_depth[at] = self._block(self.rows, given.part(at), product, g_h[at])
        return HeadGradients(g_h, g_depth, None)

    def _block(
        self, rows: CountRows, given: HeadInput, product: Tensor, g_h: Float[Tensor, "c h"]
    ) -> Float[Tensor, "c 1"]:
        """Writes to g_h; gives the gradient by the logit of the depth."""
        logits = Logits(product[: len(given.h)], self.bias)
        torch.mm(given.h, self.transposed, out=logits.product)
        depth = given.log_library
        d = torch.sigmoid(depth) if self.has_depth else torch.ones_like(depth)
        total = fused_region_gradient(rows.rows(given.index), logits, d, self.f)
        torch.mm(logits.product, self.weight, out=g_h)
        return total.mul_(1 - d)

    def _by_definition(self, given: HeadInput) -> HeadGradients:
        logits = torch.addmm(self.bias, given.h, self.weight.T)
        out = Openness(logits, given.log_library if self.has_depth else None, self.factors)
        g = by_definition(take_dense(self.x, given.index), out, wants_factors=False)
        return HeadGradients(g.logits @ self.weight, g.depth, None)
