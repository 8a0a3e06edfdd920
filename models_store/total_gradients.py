"""The gradient of totalVI's training loss by the query weights, written out.

As `query_gradients`: the encoder, the hidden layers of the four branches and the genes' outputs go
back in closed form. What the proteins add to the loss is as small as their number, and the gradient
of their raw outputs comes from autograd. Notation as in `layers` and `totalvi`.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models_store.cells import Cells, Noise, Projection, select_cells
from models_store.conditional_outputs import ConditionalOutput
from models_store.head_gradients import HeadGradients, HeadInput, SharedHead
from models_store.hidden_gradients import HiddenLayers
from models_store.layers import Codes
from models_store.posterior_gradients import PosteriorGradients
from models_store.protein_likelihood import ProteinOutput, protein_terms
from models_store.row_sums import Gradients, RowSums
from models_store.total_head import gene_outputs, total_head
from models_store.totalvi import LARGEST_LOG_LIBRARY, TOTALVI
from models_store.totalvi_decoder import Branch

PROTEIN_OUTPUTS = (
    ("background", "mean"),
    ("background", "sd"),
    ("foreground", "scale"),
    ("mixing", "proteins"),
)
"""The branch and the name of each output of the proteins, as `ProteinOutput` lists them."""


class BranchGradients:
    """The hidden layers of a branch: `forward`, then `backward` for the same cells."""

    def __init__(self, branch: Branch) -> None:
        self.layers = HiddenLayers(branch.layers)
        self.n_hidden = len(self.layers.biases[-1])

    def forward(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c n"]:
        """What the branch's outputs see, [h | seen]."""
        h = self.layers.forward(torch.mm(seen, self.layers.first), codes, with_bias=False)
        return torch.cat([h, seen], dim=-1)

    def backward(
        self, g: Float[Tensor, "c n"], codes: Codes, found: RowSums
    ) -> Float[Tensor, "c n_in"]:
        """From the gradient of [h | seen] to that of what was seen."""
        g_y = self.layers.backward(g[:, : self.n_hidden].contiguous(), codes, found)
        return torch.addmm(g[:, self.n_hidden :], g_y, self.layers.first.T)


class TotalGradients:
    """Gradients for one grafted network in eval mode (see `surgery.graft`), and its cells.

    Args:
        grafted: the network.
        cells: all that it learns from.
        projection: theirs, by `TOTALVI.project`.
        threads: how many may share the genes' outputs, where nearly all the work is.
    """

    def __init__(
        self, grafted: TOTALVI, cells: Cells, projection: Projection, *, threads: int = 1
    ) -> None:
        assert not grafted.training
        self.cvae, self.projection = grafted, projection
        genes, proteins = grafted.split(cells.x)
        # The head takes the genes; what else there is to a cell is chosen for each minibatch.
        self.cells = replace(cells, x=proteins.contiguous())
        self.head = SharedHead(total_head(grafted, genes), threads)
        self.z_encoder = PosteriorGradients(grafted.z_encoder)
        library = grafted.library_encoder
        self.library_encoder = None if library is None else PosteriorGradients(library)
        decoder = grafted.decoder
        self.branches = {
            name: BranchGradients(getattr(decoder, name))
            for name in ("genes", "background", "foreground", "mixing")
        }
        self.gene_outputs = gene_outputs(grafted)
        self.protein_outputs = [
            ConditionalOutput(getattr(decoder, branch).output(name))
            for branch, name in PROTEIN_OUTPUTS
        ]
        self.tables = [t.query for t in grafted.proteins.batch_tables() if t.query.numel()]

    @torch.no_grad()
    def __call__(self, index: Int[Tensor, " n"], noise: Noise, kl_weight: float) -> Gradients:
        """Gradients of `TOTALVI.training_loss`, the mean loss of a minibatch.

        Args:
            index: its cells among those of the network.
            noise: standard normal draws for them.
            kl_weight: weight of the KL divergence of z.
        """
        cells, projection = select_cells(self.cells, index), self.projection.rows(index)
        codes, found = cells.codes, RowSums(1 / len(index))
        z = self.z_encoder.draw(projection.z, codes, noise.z)
        log_library, kept = self._library(projection, codes, noise)
        sample = torch.softmax(z, dim=-1) if self._on_simplex else z
        seen = sample if cells.continuous is None else torch.cat([sample, cells.continuous], -1)
        h = {name: branch.forward(seen, codes) for name, branch in self.branches.items()}
        of_genes = self._genes(HeadInput(self._gene_input(h), log_library, cells, index), found)
        g = self._proteins(h, cells, noise, kl_weight, found)
        g["genes"], *rest = of_genes.h.chunk(len(self.gene_outputs), dim=-1)
        if rest:
            g["mixing"] = g["mixing"] + rest[0]
        g_seen = torch.zeros_like(seen)
        for name, branch in self.branches.items():
            g_seen += branch.backward(g[name], codes, found)
        if self.z_encoder.learns:
            g_z = g_seen[:, : z.shape[1]]
            if self._on_simplex:
                g_z = sample * (g_z - (sample * g_z).sum(-1, keepdim=True))
            self.z_encoder.backward(g_z.contiguous(), kl_weight, None, codes, found)
        if self.library_encoder is not None and self.library_encoder.learns:
            prior = self.cvae.library_prior[codes[0]].view(-1, 2)
            g_library = of_genes.log_library * kept
            self.library_encoder.backward(g_library, 1.0, prior, codes, found)
        return found.gradients

    def _library(
        self, projection: Projection, codes: Codes, noise: Noise
    ) -> tuple[Float[Tensor, "c 1"], Float[Tensor, "c 1"] | float]:
        """The log library, and 0 where a draw of it was cut off."""
        if self.library_encoder is None:
            return projection.log_library, 1.0
        assert projection.library is not None
        assert noise.library is not None
        drawn = self.library_encoder.draw(projection.library, codes, noise.library)
        kept = (drawn <= LARGEST_LOG_LIBRARY).to(drawn.dtype)
        return drawn.clamp(max=LARGEST_LOG_LIBRARY), kept

    def _gene_input(self, h: dict[str, Tensor]) -> Tensor:
        parts = [h["genes"], h["mixing"]][: len(self.gene_outputs)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _genes(self, given: HeadInput, found: RowSums) -> HeadGradients:
        g = self.head(given)
        codes = given.cells.codes
        for output, sums in zip(self.gene_outputs, g.rows, strict=True):
            output.keep(sums, codes, found)
        if g.log_theta is not None:
            found.add(self.cvae.dispersion, codes[0], g.log_theta)
        return g

    def _proteins(
        self, h: dict[str, Tensor], cells: Cells, noise: Noise, kl_weight: float, found: RowSums
    ) -> dict[str, Tensor]:
        """The gradient of what each branch's outputs of proteins see."""
        codes = cells.codes
        g_h: dict[str, Tensor] = {}
        raw = [
            output.forward(h[branch], codes)
            for output, (branch, _) in zip(self.protein_outputs, PROTEIN_OUTPUTS, strict=True)
        ]
        for output, (branch, _), g in zip(
            self.protein_outputs,
            PROTEIN_OUTPUTS,
            self._protein_slopes(raw, cells, noise, kl_weight, found),
            strict=True,
        ):
            output.keep(output.sums(g, codes), codes, found)
            to_h = torch.mm(g, output.W_T)
            g_h[branch] = g_h[branch] + to_h if branch in g_h else to_h
        return g_h

    @torch.enable_grad()
    def _protein_slopes(
        self, raw: list[Tensor], cells: Cells, noise: Noise, kl_weight: float, found: RowSums
    ) -> tuple[Tensor, ...]:
        """The gradient of Σ_cells by the raw outputs; that of the batches' tables is kept."""
        cvae = self.cvae
        assert noise.background is not None
        outputs = [each.requires_grad_() for each in raw]
        given = cvae.proteins.counts(cells.x, cells, noise.background)
        terms = protein_terms(ProteinOutput(*outputs), given, cvae.architecture.background)
        weight = kl_weight if cvae.architecture.protein_efficiency else 1.0
        total = (weight * terms.reconstruction + kl_weight * terms.kl_background).sum()
        slopes = torch.autograd.grad(total, [*outputs, *self.tables], materialize_grads=True)
        for table, g in zip(self.tables, slopes[len(outputs) :], strict=True):
            found.gradients[table] = g * found.scale
        return slopes[: len(outputs)]

    @property
    def _on_simplex(self) -> bool:
        return self.cvae.architecture.latent_distribution == "ln"
