"""totalVI (Gayoso, Steier et al. 2021): genes and proteins of a cell from one latent.

    q(z | x, y, s) = N(m, v)    from log(1 + x/(1 + mean x)) and the same of the proteins y
    p(x | z, s, l)              as in `scvi`, by outputs that see z and the covariates again
    p(y | z, s)                 background or foreground: `protein_likelihood`
    loss = mean_cells( -log p(x | z) + KL(q(l) || p(l)) + w (-log p(y | z) + KL_z + KL_background) )

The columns of the counts are the genes, then the proteins. Notation as in `layers`; p proteins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models_store.cells import Cells, Noise, Posterior, Projection
from models_store.coders import Dispersion, Encoder
from models_store.cvae import CVAE, LossTerms
from models_store.layers import Codes
from models_store.outputs import OUTPUTS_OF, OutputName
from models_store.protein_likelihood import (
    ProteinTerms,
    background_sd,
    foreground_scale,
    protein_terms,
)
from models_store.protein_tables import ProteinTables, dispersion_by, log_theta
from models_store.reconstruction import (
    DecoderOutput,
    Head,
    negative_log_likelihood,
    reconstruction_slope,
)
from models_store.sparse_counts import columns, dense
from models_store.totalvi_decoder import TotalDecoder, TotalOutput

LARGEST_LOG_LIBRARY = 15.0
"""Draws of a latent library end here, as in scvi-tools."""


@dataclass(frozen=True)
class ProteinLossTerms(LossTerms):
    """The loss of each cell; `reconstruction` is that of the genes."""

    proteins: Float[Tensor, " c"]
    kl_background: Float[Tensor, " c"]
    weighted: bool
    """Whether the proteins count by the KL weight (scvi-tools since 1.3.1)."""

    def loss(self, kl_weight: float) -> Float[Tensor, ""]:
        """Mean over cells; the KL of a latent library is never weighted down."""
        proteins = self.proteins * kl_weight if self.weighted else self.proteins
        kl = kl_weight * (self.kl_z + self.kl_background)
        return (self.reconstruction + proteins + kl + self.kl_library).mean()

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """As of every network."""
        return -self.loss(1.0)


@dataclass(frozen=True)
class Foreground:
    """Proteins without their background: expected counts, and P(foreground), each (c, p)."""

    expression: Float[Tensor, "c p"]
    probability: Float[Tensor, "c p"]


@dataclass(frozen=True)
class Generated:
    """One pass of cells through the network."""

    out: TotalOutput
    log_library: Float[Tensor, "c 1"]
    q_z: Posterior
    kl_library: Float[Tensor, " c"]


class TOTALVI(CVAE):
    """The conditional VAE of one reference version of genes and proteins.

    The arguments are those of `CVAE`; labels are for dispersions by label.
    """

    see_covariates = ("z_encoder", "library_encoder", "decoder")
    outputs = OUTPUTS_OF["totalvi"]

    def lay_out(self) -> None:
        """See `CVAE`."""
        a = self.architecture
        self.head = Head(a.likelihood, softplus_scale=a.library == "size_factor")
        n_in, sees = a.n_features + self.n_continuous_encoded, self.seen_by_encoders
        n_batches = self.n_categories[0]
        self.z_encoder = Encoder(n_in, a.n_latent, a, n_layers=a.n_layers, n_categories=sees)
        self.library_encoder = (
            Encoder(n_in, 1, a, n_layers=1, n_categories=sees) if a.library == "latent" else None
        )
        self.decoder = TotalDecoder(a.n_latent + self.n_continuous, a, self.n_categories)
        self.dispersion = dispersion_by(
            a.dispersion, n_batches=n_batches, n_labels=self.n_labels, width=a.n_genes
        )
        self.proteins = ProteinTables(a, n_batches, self.n_labels)

    def project(self, cells: Cells, log_x: Float[Tensor, "c g"] | None = None) -> Projection:
        """What the encoders take from the counts, and the log library; empty cells get log 1.

        `log_x`: log(1 + x), where it is known; only older saves look at it.
        """
        a, x = self.architecture, cells.x
        if a.protein_efficiency:
            x = torch.cat([part / (1 + part.mean(-1, keepdim=True)) for part in self.split(x)], -1)
        if a.log_variational:
            x = torch.log1p(x) if a.protein_efficiency or log_x is None else log_x
        if a.encode_covariates and cells.continuous is not None:
            x = torch.cat([x, cells.continuous], dim=-1)
        library = None
        if a.library == "size_factor":
            assert cells.size_factor is not None
            log_library = cells.size_factor.unsqueeze(1).log()
        elif self.library_encoder is None:
            total = self.split(cells.x)[0].sum(-1, keepdim=True)
            log_library = torch.where(total > 0, total, torch.ones_like(total)).log()
        else:
            library = self.library_encoder.layers.project(x)
            log_library = x.new_zeros(len(x), 1)
        return Projection(self.z_encoder.layers.project(x), library, log_library)

    def split(self, x: Float[Tensor, "c n"]) -> tuple[Tensor, Tensor]:
        """The genes' columns, kept as they were, and the proteins', dense."""
        n_genes = self.architecture.n_genes
        return columns(x, 0, n_genes), dense(columns(x, n_genes, x.shape[1]))

    def posterior(self, projection: Projection, codes: Codes) -> Posterior:
        """q(z | x, y, s)."""
        posterior: Posterior = self.z_encoder(projection.z, codes)
        return posterior

    def decode(
        self, z: Float[Tensor, "c z"], codes: Codes, continuous: Float[Tensor, "c n"] | None
    ) -> TotalOutput:
        """Raw outputs of the likelihoods' parameters; continuous covariates not given are 0."""
        continuous = self.no_continuous(len(z)) if continuous is None else continuous
        seen = z if continuous is None else torch.cat([z, continuous], dim=-1)
        out: TotalOutput = self.decoder(seen, codes)
        return out

    def generate(self, cells: Cells, projection: Projection, noise: Noise) -> Generated:
        """One pass with given noise."""
        q_z = self.posterior(projection, cells.codes)
        log_library, kl_library = projection.log_library, torch.zeros_like(q_z.m[:, 0])
        if self.library_encoder is not None:
            assert projection.library is not None
            assert noise.library is not None
            q_library: Posterior = self.library_encoder(projection.library, cells.codes)
            log_library = q_library.sample(noise.library).clamp(max=LARGEST_LOG_LIBRARY)
            prior = self.library_prior[cells.codes[0]].view(-1, 2)
            kl_library = q_library.kl(prior[:, :1], prior[:, 1:])
        out = self.decode(self.sample(q_z, noise.z), cells.codes, cells.continuous)
        return Generated(out, log_library, q_z, kl_library)

    def loss_terms(
        self, cells: Cells, noise: Noise, projection: Projection | None = None
    ) -> ProteinLossTerms:
        """Every term of the loss with given noise, in full."""
        made = self.generate(cells, projection or self.project(cells), noise)
        genes = self.split(cells.x)[0]
        reconstruction = negative_log_likelihood(self.head, genes, self._gene_output(made, cells))
        return self._terms(cells, noise, made, reconstruction)

    def training_loss(
        self,
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        *,
        projection: Projection | None = None,
        labelled: Cells | None = None,
    ) -> Float[Tensor, ""]:
        """A scalar whose gradient is that of the loss: of the genes it has the slope alone."""
        made = self.generate(cells, projection or self.project(cells), noise)
        genes = self.split(cells.x)[0]
        slope = reconstruction_slope(self.head, genes, self._gene_output(made, cells))
        terms = self._terms(cells, noise, made, torch.zeros_like(made.kl_library))
        return terms.loss(kl_weight) + slope / len(cells.x)

    def _gene_output(self, made: Generated, cells: Cells) -> DecoderOutput:
        of_genes = log_theta(self.dispersion, self.architecture.dispersion, cells)
        return DecoderOutput(made.out.logits, made.log_library, of_genes, made.out.pi)

    def _terms(
        self, cells: Cells, noise: Noise, made: Generated, reconstruction: Float[Tensor, " c"]
    ) -> ProteinLossTerms:
        found = self.protein_terms(cells, noise, made.out)
        return ProteinLossTerms(
            reconstruction,
            made.q_z.kl_standard(),
            made.kl_library,
            found.reconstruction,
            found.kl_background,
            weighted=self.architecture.protein_efficiency,
        )

    def protein_terms(self, cells: Cells, noise: Noise, out: TotalOutput) -> ProteinTerms:
        """What the proteins of each cell add to the loss."""
        assert noise.background is not None
        given = self.proteins.counts(self.split(cells.x)[1], cells, noise.background)
        return protein_terms(out.proteins, given, self.architecture.background)

    def draw_noise(self, n_cells: int, generator: torch.Generator) -> Noise:
        """Of z, of a latent library, and of the proteins' background."""
        noise = super().draw_noise(n_cells, generator)
        if self.library_encoder is not None:
            library = torch.randn(n_cells, 1, generator=generator)
            noise = replace(noise, library=library.to(self.device))
        background = torch.randn(n_cells, self.architecture.n_proteins, generator=generator)
        return replace(noise, background=background.to(self.device))

    @property
    def library_is_latent(self) -> bool:
        """Whether a mapping keeps a prior of the library of each of its batches."""
        return self.library_encoder is not None

    def batch_tables(self) -> Iterator[Dispersion]:
        """The priors of the background, and dispersions of each batch."""
        yield from self.proteins.batch_tables()
        if self.architecture.dispersion == "gene-batch":
            yield self.dispersion

    def decoded(
        self, output: OutputName, z: Float[Tensor, "c z"], cells: Cells
    ) -> Float[Tensor, "c f"]:
        """The scale of the genes, or of the proteins what `protein_foreground` gives."""
        if output == "normalised_expression":
            return self.head.scale(self.decode(z, cells.codes, cells.continuous).logits)
        found = self.protein_foreground(z, cells.codes, cells.continuous)
        return found.probability if output == "protein_probability" else found.expression

    def protein_foreground(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        continuous: Float[Tensor, "c n"] | None = None,
        noise: Float[Tensor, "c p"] | None = None,
    ) -> Foreground:
        """Proteins without background at z: σ(-π) b (1 + ReLU(φ)) and σ(-π), as scvi-tools has it.

        Args:
            z: latents.
            codes: the batch to decode into, and the extra covariates.
            continuous: continuous covariates; None: 0.
            noise: draws of the background b; None takes its mean, exp(α + β²/2).
        """
        out = self.decode(z, codes, continuous).proteins
        sd = background_sd(out.sd, self.architecture.background)
        log_back = out.mean + (0.5 * sd**2 if noise is None else sd * noise)
        probability = torch.sigmoid(-out.mixing)
        return Foreground(log_back.exp() * foreground_scale(out) * probability, probability)

    def expected_shares(self, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c n"]:
        """Each feature's share of the counts that are expected of a cell of its batch's depth.

        Of the genes μ (1 - σ(π)), π of zinb alone; of the proteins what is expected of background
        and foreground. Rows sum to 1; continuous covariates are 0.
        """
        out = self.decode(z, codes, None)
        genes = self.head.scale(out.logits)
        if out.pi is not None:
            genes = genes * torch.sigmoid(-out.pi)
        depth = self.library_prior[codes[0]].view(-1, 2)[:, :1].exp()
        found = torch.cat(
            [depth * genes / genes.sum(-1, keepdim=True), self._expected_proteins(out, codes)], -1
        )
        return found / found.sum(-1, keepdim=True)

    def _expected_proteins(self, out: TotalOutput, codes: Codes) -> Float[Tensor, "c p"]:
        proteins = out.proteins
        sd = background_sd(proteins.sd, self.architecture.background)
        back = (proteins.mean + 0.5 * sd**2).exp()
        if (log_efficiency := self.proteins.efficiency(codes[0])) is not None:
            back = back * log_efficiency.exp()
        is_fore = torch.sigmoid(-proteins.mixing)
        return back * (1 - is_fore + is_fore * foreground_scale(proteins))
