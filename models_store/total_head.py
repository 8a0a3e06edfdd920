"""totalVI's genes from the branches' last layers to the likelihood and back.

As `head_gradients`, for outputs that see covariates: an output's query rows learn from the sum of
its gradients over the cells of each new category. `HeadInput.h` is what the output of the scale
sees, and with zero inflation, beside it, what that output sees.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.cells import take_dense
from models_store.conditional_outputs import ConditionalOutput, added
from models_store.count_rows import CountRows
from models_store.head_gradients import CELLS_AT_ONCE, HeadGradients, HeadInput
from models_store.kernels import Logits, can_fuse, fused_gradient
from models_store.protein_tables import log_theta
from models_store.reconstruction import DecoderOutput, reconstruction_gradients
from models_store.totalvi import TOTALVI


class DefinedTotalHead:
    """Any likelihood, on any device, as `reconstruction` defines it.

    Args:
        cvae: a grafted network in eval mode.
        x: counts of the genes of all cells.
    """

    def __init__(self, cvae: TOTALVI, x: Float[Tensor, "c g"]) -> None:
        self.cvae, self.x = cvae, x
        self.outputs = gene_outputs(cvae)
        self.n_outputs = len(self.outputs) * x.shape[1]
        self.by_batch = cvae.architecture.dispersion == "gene-batch"

    @torch.no_grad()  # each thread has its own mode
    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells."""
        cvae, codes = self.cvae, given.cells.codes
        seen = given.h.chunk(len(self.outputs), dim=-1)
        logits, *pi = (
            output.forward(h, codes) for output, h in zip(self.outputs, seen, strict=True)
        )
        theta = log_theta(cvae.dispersion, cvae.architecture.dispersion, given.cells)
        out = DecoderOutput(logits, given.log_library, theta, pi[0] if pi else None)
        x = take_dense(self.x, given.index)
        g = reconstruction_gradients(cvae.head, x, out, wants_theta=self.by_batch)
        of_outputs = [each for each in (g.logits, g.pi) if each is not None]
        each_output = list(zip(self.outputs, of_outputs, strict=True))
        return HeadGradients(
            torch.cat([torch.mm(each, output.W_T) for output, each in each_output], dim=-1),
            g.log_library,
            g.log_theta if self.by_batch else None,
            [output.sums(each, codes) for output, each in each_output],
        )


class FusedTotalHead:
    """nb and zinb with a dispersion that is frozen, under a softmax, on the CPU in float32."""

    def __init__(self, cvae: TOTALVI, x: CountRows) -> None:
        self.cvae, self.x = cvae, x
        self.outputs = gene_outputs(cvae)
        self.n_outputs = len(self.outputs) * cvae.architecture.n_genes

    @torch.no_grad()  # each thread has its own mode
    def __call__(self, given: HeadInput) -> HeadGradients:
        """For these cells, some at a time."""
        g_h, g_library = torch.empty_like(given.h), torch.empty_like(given.log_library)
        biases = [output.bias(given.cells.codes) for output in self.outputs]
        n, found = min(len(given.h), CELLS_AT_ONCE), []
        for start in range(0, len(given.h), n):
            rows = slice(start, start + n)
            part = self._block(given.part(rows), biases)
            g_h[rows], g_library[rows] = part.h, part.log_library
            found.append(part.rows)
        return HeadGradients(g_h, g_library, None, [added(s) for s in zip(*found, strict=True)])

    def _block(self, given: HeadInput, biases: Sequence[Tensor]) -> HeadGradients:
        codes, logits = given.cells.codes, []
        seen = given.h.chunk(len(self.outputs), dim=-1)
        for output, h, bias in zip(self.outputs, seen, biases, strict=True):
            product = torch.mm(h, output.W)
            output.add_rows(product, codes)
            logits.append(Logits(product, bias))
        dispersion = self.cvae.architecture.dispersion
        theta = log_theta(self.cvae.dispersion, dispersion, given.cells).exp()
        scale, *pi = logits
        x, library = self.x.rows(given.index), given.log_library.exp()
        g_library = fused_gradient(x, scale, library, theta, pi[0] if pi else None)
        each_output = list(zip(self.outputs, logits, strict=True))
        return HeadGradients(
            torch.cat([torch.mm(each.product, output.W_T) for output, each in each_output], -1),
            g_library,
            None,
            [output.sums(each.product, codes) for output, each in each_output],
        )


def gene_outputs(cvae: TOTALVI) -> list[ConditionalOutput]:
    """Of the scale, and of the zero inflation where there is one."""
    outputs = [cvae.decoder.genes.output("scale")]
    if cvae.architecture.likelihood == "zinb":
        outputs.append(cvae.decoder.mixing.output("genes"))
    return [ConditionalOutput(linear) for linear in outputs]


def total_head(cvae: TOTALVI, x: Float[Tensor, "c g"]) -> DefinedTotalHead | FusedTotalHead:
    """The faster of the two that serves this network."""
    a = cvae.architecture
    frozen = a.dispersion in ("gene", "gene-label")
    known = can_fuse(x, a.likelihood, wants_theta=False)
    if frozen and known and not cvae.head.softplus_scale:
        return FusedTotalHead(cvae, CountRows.of(x))
    return DefinedTotalHead(cvae, x)
