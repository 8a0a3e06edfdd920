"""PEAKVI, the conditional VAE of open chromatin (Ashuach et al. 2022).

    q(z | x, s) = N(m, v)      m, log v from the encoder of the counts as they are
    p(x | z, s)                a region is seen open with probability y = p d f: see `regions`
    loss = mean_cells( -log p(x | z) + w KL_SHARE KL(q(z) || N(0, I)) )

Notation as in `layers` and `regions`.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells, Noise, Posterior, Projection, Rows, select_cells
from models_store.coders import Encoder
from models_store.cvae import CVAE, LossTerms
from models_store.layers import Codes
from models_store.outputs import OUTPUTS_OF, OutputName
from models_store.region_kernels import can_fuse_regions
from models_store.regions import (
    Openness,
    RegionDecoder,
    depth_encoder,
    negative_log_bernoulli,
    openness_slope,
)

KL_SHARE = 1 / 128
"""scvi-tools adds the KL of each cell of a minibatch to the reconstruction of all of them and sums
that over the minibatch, so at its 128 cells a KL weighs a 128th beside its cell's reconstruction.
It trains with AdamW, to which the size of the whole loss is all the same."""


class PEAKVI(CVAE):
    """The conditional VAE of one reference version.

    The arguments are those of `CVAE`; labels are not looked at.
    """

    see_covariates: ClassVar = ("z_encoder", "depth_encoder", "decoder")
    kl_share: ClassVar[float] = KL_SHARE
    outputs: ClassVar[tuple[OutputName, ...]] = OUTPUTS_OF["peakvi"]
    decoded_at_mean: ClassVar[frozenset[OutputName]] = frozenset(outputs)

    def lay_out(self) -> None:
        """See `CVAE`."""
        a = self.architecture
        n_in, sees = a.n_regions + self.n_continuous_encoded, self.seen_by_encoders
        self.z_encoder = Encoder(
            n_in,
            a.n_latent,
            a,
            n_layers=a.n_layers,
            n_categories=sees,
            activation="leaky_relu",
            variance_eps=0.0,
            inject_deeply=True,
        )
        self.depth_encoder = depth_encoder(n_in, a, sees) if a.model_depth else None
        self.decoder = RegionDecoder(a.n_latent + self.n_continuous, a, self.n_categories)
        zeros = torch.zeros(a.n_regions)
        self.region_factors = nn.Parameter(zeros) if a.region_factors else None

    def minibatch(self, cells: Cells, rows: Rows) -> Cells:
        """As they are kept: nothing here needs a zero, on the CPU and without covariates beside."""
        sees_more = self.architecture.encode_covariates and cells.continuous is not None
        if sees_more or not can_fuse_regions(cells.x):
            return super().minibatch(cells, rows)
        return select_cells(cells, rows)

    def project(self, cells: Cells, log_x: Float[Tensor, "c g"] | None = None) -> Projection:
        """What the encoders of z and of the depth take from the counts."""
        x = cells.x
        if self.architecture.encode_covariates and cells.continuous is not None:
            x = torch.cat([x, cells.continuous], dim=-1)
        depth = self.depth_encoder
        library = None if depth is None else depth.layers.project(x)
        return Projection(
            self.z_encoder.layers.project(x),
            library,
            torch.zeros(len(x), 1, dtype=x.dtype, device=x.device),
        )

    def posterior(self, projection: Projection, codes: Codes) -> Posterior:
        """q(z | x, s)."""
        posterior: Posterior = self.z_encoder(projection.z, codes)
        return posterior

    def depth(self, projection: Projection, codes: Codes) -> Float[Tensor, "c 1"] | None:
        """The logit of d, of a network that models it."""
        if self.depth_encoder is None or projection.library is None:
            return None
        return torch.as_tensor(self.depth_encoder(projection.library, codes))

    def decode(
        self, z: Float[Tensor, "c z"], codes: Codes, continuous: Float[Tensor, "c n"] | None
    ) -> Float[Tensor, "c r"]:
        """The logits of p."""
        seen = z if continuous is None else torch.cat([z, continuous], dim=-1)
        return torch.as_tensor(self.decoder(seen, codes))

    def generate(
        self, cells: Cells, noise: Noise, projection: Projection | None
    ) -> tuple[Openness, Posterior]:
        """One pass with given noise."""
        projection = projection or self.project(cells)
        q_z = self.posterior(projection, cells.codes)
        logits = self.decode(self.sample(q_z, noise.z), cells.codes, cells.continuous)
        depth = self.depth(projection, cells.codes)
        return Openness(logits, depth, self.region_factors), q_z

    def loss_terms(
        self, cells: Cells, noise: Noise, projection: Projection | None = None
    ) -> LossTerms:
        """Every term of the loss with given noise, in full (training uses the slope alone)."""
        out, q_z = self.generate(cells, noise, projection)
        reconstruction = negative_log_bernoulli(cells.x, out)
        return LossTerms(reconstruction, q_z.kl_standard(), torch.zeros_like(reconstruction))

    def training_loss(
        self,
        cells: Cells,
        noise: Noise,
        kl_weight: float,
        *,
        projection: Projection | None = None,
        labelled: Cells | None = None,
    ) -> Float[Tensor, ""]:
        """The slope of the reconstruction with the KL's share; no label is looked at."""
        out, q_z = self.generate(cells, noise, projection)
        kl = (kl_weight * self.kl_share) * q_z.kl_standard().mean()
        return kl + openness_slope(cells.x, out) / len(cells.x)

    def accessibility(
        self,
        z: Float[Tensor, "c z"],
        codes: Codes,
        *,
        continuous: Float[Tensor, "c n"] | None = None,
    ) -> Float[Tensor, "c r"]:
        """p of each region at z, without the depth of a cell and the factor of a region.

        Args:
            z: latents.
            codes: the batch to decode into, and the extra covariates.
            continuous: continuous covariates; None: 0.
        """
        continuous = self.no_continuous(len(z)) if continuous is None else continuous
        return torch.sigmoid(self.decode(z, codes, continuous))

    def decoded(
        self, output: OutputName, z: Float[Tensor, "c z"], cells: Cells
    ) -> Float[Tensor, "c r"]:
        """What `accessibility` gives."""
        return self.accessibility(z, cells.codes, continuous=cells.continuous)

    def expected_shares(self, z: Float[Tensor, "c z"], codes: Codes) -> Float[Tensor, "c r"]:
        """p f / Σ_r p f: what shares of the regions seen open a shallow cell has."""
        open_ = self.accessibility(z, codes)
        if self.region_factors is not None:
            open_ = open_ * torch.sigmoid(self.region_factors)
        return open_ / open_.sum(-1, keepdim=True)
