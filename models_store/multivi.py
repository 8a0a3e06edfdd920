"""MultiVI (Ashuach et al. 2023): genes, open regions and proteins of a cell from one latent.

    q_k(z | x_k, s) = N(m_k, v_k)   from the raw counts of each modality k
    q(z | x, s)                     of the modalities that a cell has: see `modalities`
    p(x_g | z, s)                   as in `scvi`, with a log library l(x_g, s), encoded or given
    p(x_r > 0 | z, s) = p d f       as in `regions`, with a depth d(x_r, s), encoded or given
    p(y | z, s)                     as in `protein_likelihood`, the background without priors
    loss = mean_cells( Σ_k present -log p(x_k | z) + w KL(q(z) || N(0, I)) + penalty )

The columns of the counts are genes, regions, proteins; a modality without counts in a cell is
absent there. Notation as in `layers` and `modalities`; r counts regions, p proteins.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells, Noise, Posterior, Projection, select_cells
from models_store.coders import Dispersion, Encoder
from models_store.cvae import CVAE
from models_store.layers import Codes
from models_store.modalities import (
    MMD_WEIGHT,
    N_MODALITIES,
    ModalityLossTerms,
    mix_posteriors,
    modality_penalty,
    presence,
    split_modalities,
)
from models_store.multivi_coders import (
    Encoded,
    GeneDecoder,
    ProteinDecoder,
    given_sizes,
    modality_encoder,
    size_encoder,
    sizes_of,
)
from models_store.outputs import OUTPUTS_OF, OutputName
from models_store.reconstruction import negative_log_likelihood, reconstruction_slope
from models_store.regions import Openness, RegionDecoder, negative_log_bernoulli, openness_slope


class MULTIVI(CVAE):
    """The conditional VAE of one reference version of genes, regions and proteins.

    The arguments are those of `CVAE`; labels are not looked at.
    """

    see_covariates = (
        "gene_encoder",
        "region_encoder",
        "protein_encoder",
        "library_encoder",
        "depth_encoder",
        "gene_decoder",
        "region_decoder",
        "protein_decoder",
    )
    outputs = OUTPUTS_OF["multivi"]
    decoded_at_mean = frozenset(outputs)
    mmd_weight: float = MMD_WEIGHT
    penalty_power: int = 0
    """See `ModalityLossTerms`; 0 but while a reference trains."""
    modality_weights: Tensor

    def lay_out(self) -> None:
        """See `CVAE`."""
        a = self.architecture
        if a.dispersion_by_label:
            raise ValueError("MULTIVI looks at no labels")
        if a.likelihood == "normal" or a.library == "latent":
            raise ValueError("MULTIVI models counts, and its library has no prior")
        sees, n_categories = self.seen_by_encoders, self.n_categories
        # As in scvi-tools, a kind of features that there are none of has one, which is always 0.
        g, r, p = (max(1, n) + self.n_continuous_encoded for n in a.counts().values())
        self.gene_encoder = modality_encoder(g, a, sees, deeply=a.deeply_inject_covariates)
        self.region_encoder = modality_encoder(r, a, sees, deeply=True)
        self.protein_encoder = modality_encoder(p, a, sees, deeply=True)
        self.library_encoder = size_encoder(g, a, sees) if a.library == "observed" else None
        self.depth_encoder = None if a.depth_factor else size_encoder(r, a, sees)
        weights = torch.ones(N_MODALITIES)
        self.register_buffer("modality_weights", weights)
        if a.modality_weights == "universal":
            del self.modality_weights
            self.modality_weights = nn.Parameter(weights)
        n_in = a.n_latent + self.n_continuous
        self.gene_decoder = GeneDecoder(n_in, a, n_categories) if a.n_genes else None
        self.region_decoder = RegionDecoder(n_in, a, n_categories) if a.n_regions else None
        self.protein_decoder = ProteinDecoder(n_in, a, n_categories) if a.n_proteins else None
        zeros = torch.zeros(a.n_regions)
        self.region_factors = nn.Parameter(zeros) if a.region_factors and a.n_regions else None

    @property
    def encoders(self) -> tuple[Encoder, Encoder, Encoder]:
        """Of genes, regions, proteins."""
        return self.gene_encoder, self.region_encoder, self.protein_encoder

    def project(self, cells: Cells, log_x: Float[Tensor, "c g"] | None = None) -> Projection:
        """What the encoders take from the counts, side by side, and what a cell has."""
        parts = split_modalities(cells.x, self.architecture)
        seen = [part if part.shape[1] else part.new_zeros(len(part), 1) for part in parts]
        if self.architecture.encode_covariates and cells.continuous is not None:
            seen = [torch.cat([part, cells.continuous], dim=-1) for part in seen]
        z = [e.layers.project(part) for e, part in zip(self.encoders, seen, strict=True)]
        sizes = zip((self.library_encoder, self.depth_encoder), seen, strict=False)
        size = [encoder.layers.project(part) for encoder, part in sizes if encoder is not None]
        has = torch.cat([presence(parts), given_sizes(cells, self.architecture)], dim=-1)
        return Projection(torch.cat(z, dim=-1), torch.cat(size, dim=-1) if size else None, has)

    def posteriors(self, projection: Projection, codes: Codes) -> tuple[Posterior, ...]:
        """q_k(z | x_k, s) of genes, of regions and of proteins."""
        genes, regions, proteins = projection.z.chunk(N_MODALITIES, dim=-1)
        # In scvi-tools' order, in which dropout draws.
        of_regions = self.region_encoder(regions, codes)
        of_genes = self.gene_encoder(genes, codes)
        return of_genes, of_regions, self.protein_encoder(proteins, codes)

    def posterior(self, projection: Projection, codes: Codes) -> Posterior:
        """q(z | x, s)."""
        each = self.posteriors(projection, codes)
        present = projection.log_library[:, :N_MODALITIES]
        return mix_posteriors(each, self.modality_weights, present)

    def encode(self, projection: Projection, codes: Codes) -> Encoded:
        """All that the encoders say of cells."""
        each, present = self.posteriors(projection, codes), projection.log_library[:, :N_MODALITIES]
        q_z = mix_posteriors(each, self.modality_weights, present)
        sizes = sizes_of((self.library_encoder, self.depth_encoder), projection, codes)
        return Encoded(each, q_z, present, *sizes)

    def seen_by_decoders(
        self, made: Encoded, noise: Noise, continuous: Float[Tensor, "c n"] | None
    ) -> Float[Tensor, "c n_in"]:
        """A draw of z, with the continuous covariates beside it."""
        z = self.sample(made.q_z, noise.z)
        return z if continuous is None else torch.cat([z, continuous], dim=-1)

    def loss_terms(
        self, cells: Cells, noise: Noise, projection: Projection | None = None
    ) -> ModalityLossTerms:
        """Every term of the loss with given noise, in full."""
        made = self.encode(projection or self.project(cells), cells.codes)
        seen = self.seen_by_decoders(made, noise, cells.continuous)
        genes, regions, proteins = split_modalities(cells.x, self.architecture)
        total = self.protein_surprise(seen, proteins, cells.codes, noise, made)
        if self.gene_decoder is not None:
            h = self.gene_decoder.decoder.layers(seen, cells.codes)
            out = self.gene_decoder.emit(h, made.log_library, cells)
            surprise = negative_log_likelihood(self.gene_decoder.head, genes, out)
            total = total + made.present[:, 0] * surprise
        if self.region_decoder is not None:
            open_ = self.openness(self.region_decoder(seen, cells.codes), made.depth)
            total = total + made.present[:, 1] * negative_log_bernoulli(regions, open_)
        return self.terms(made, total)

    def training_loss(
        self,
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        *,
        projection: Projection | None = None,
        labelled: Cells | None = None,
    ) -> Float[Tensor, ""]:
        """A scalar whose gradient is that of the loss: of genes and regions the slope alone."""
        made = self.encode(projection or self.project(cells), cells.codes)
        seen = self.seen_by_decoders(made, noise, cells.continuous)
        genes, regions, proteins = split_modalities(cells.x, self.architecture)
        slope = torch.zeros_like(made.present[0, 0])
        if self.gene_decoder is not None:
            h = self.gene_decoder.decoder.layers(seen, cells.codes)
            has = torch.nonzero(made.present[:, 0]).squeeze(1)
            out = self.gene_decoder.emit(h[has], made.log_library[has], select_cells(cells, has))
            slope = slope + reconstruction_slope(self.gene_decoder.head, genes[has], out)
        if self.region_decoder is not None:
            h = self.region_decoder.layers(seen, cells.codes)
            has = torch.nonzero(made.present[:, 1]).squeeze(1)
            open_ = self.openness(self.region_decoder.output(h[has]), made.depth[has])
            slope = slope + openness_slope(regions[has], open_)
        rest = self.protein_surprise(seen, proteins, cells.codes, noise, made)
        return self.terms(made, rest).loss(kl_weight) + slope / len(cells.x)

    def openness(self, logits: Float[Tensor, "c r"], depth: Float[Tensor, "c 1"]) -> Openness:
        """What the probability that a region is seen open is made of."""
        return Openness(logits, depth, self.region_factors)

    def protein_surprise(
        self,
        seen: Float[Tensor, "c n_in"],
        y: Float[Tensor, "c p"],
        codes: Codes,
        noise: Noise,
        made: Encoded,
    ) -> Float[Tensor, " c"]:
        """-log p(y) of the cells that have proteins, 0 of the others."""
        if self.protein_decoder is None:
            return torch.zeros_like(made.present[:, 2])
        assert noise.background is not None
        out = self.protein_decoder(seen, codes)
        surprise = self.protein_decoder.surprise(y, out, noise.background, codes[0])
        return made.present[:, 2] * surprise

    def terms(self, made: Encoded, reconstruction: Float[Tensor, " c"]) -> ModalityLossTerms:
        """The terms of the loss beside the reconstruction."""
        kl, kind = made.q_z.kl_standard(), self.architecture.modality_penalty
        penalty = modality_penalty(kind, made.each, made.present)
        if kind == "MMD":
            penalty = penalty * self.mmd_weight
        zeros = torch.zeros_like(kl)
        return ModalityLossTerms(reconstruction, kl, zeros, penalty, self.penalty_power)

    def draw_noise(self, n_cells: int, generator: torch.Generator) -> Noise:
        """Of z, and of the background of proteins."""
        noise = super().draw_noise(n_cells, generator)
        if self.protein_decoder is None:
            return noise
        draws = torch.randn(n_cells, self.architecture.n_proteins, generator=generator)
        return replace(noise, background=draws.to(self.device))

    def batch_tables(self) -> Iterator[Dispersion]:
        """The dispersions that are of each batch."""
        if self.gene_decoder is not None and self.architecture.dispersion == "gene-batch":
            yield self.gene_decoder.dispersion
        if self.protein_decoder is not None and self.protein_decoder.by_batch:
            yield self.protein_decoder.dispersion

    def decoded(
        self, output: OutputName, z: Float[Tensor, "c z"], cells: Cells
    ) -> Float[Tensor, "c f"]:
        """What the method of each output gives, with the cells' continuous covariates."""
        if output == "normalised_expression":
            return self.gene_shares(z, cells.codes, cells.continuous)
        by = self.accessibility if output == "accessibility" else self.protein_foreground
        return by(z, cells.codes, cells.continuous)

    def gene_shares(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        continuous: Float[Tensor, "c n"] | None = None,
    ) -> Float[Tensor, "c g"]:
        """Normalised expression, before zero inflation; continuous covariates not given are 0."""
        assert self.gene_decoder is not None
        return self.gene_decoder.shares(self._seen(z, continuous), codes)

    def accessibility(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        continuous: Float[Tensor, "c n"] | None = None,
    ) -> Float[Tensor, "c r"]:
        """p of each region at z, without the depth of a cell and the factor of a region."""
        assert self.region_decoder is not None
        return torch.sigmoid(self.region_decoder(self._seen(z, continuous), codes))

    def protein_foreground(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        continuous: Float[Tensor, "c n"] | None = None,
    ) -> Float[Tensor, "c p"]:
        """1 - σ(π): the probability that a protein of a cell at z is above its background."""
        assert self.protein_decoder is not None
        out = self.protein_decoder.mixing(self._seen(z, continuous), codes)
        return torch.sigmoid(-out["proteins"])

    def expected_shares(self, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c n"]:
        """Each feature's share of what is expected of its modality, all modalities counting alike.

        How many counts a cell has of each is no part of z. Rows sum to 1.
        """
        seen, found = self._seen(z, None), list[Tensor]()
        if self.gene_decoder is not None:
            found.append(self.gene_decoder.expected(seen, codes))
        if self.region_decoder is not None:
            logits = self.region_decoder(seen, codes)
            found.append(Openness(logits, None, self.region_factors).probability())
        if self.protein_decoder is not None:
            found.append(self.protein_decoder.expected(seen, codes))
        return torch.cat([part / part.sum(-1, keepdim=True) for part in found], -1) / len(found)

    def _seen(
        self, z: Float[Tensor, "c z"], continuous: Float[Tensor, "c n"] | None
    ) -> Float[Tensor, "c n_in"]:
        continuous = self.no_continuous(len(z)) if continuous is None else continuous
        return z if continuous is None else torch.cat([z, continuous], dim=-1)
