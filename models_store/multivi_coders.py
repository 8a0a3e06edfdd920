"""The parts of MultiVI: sizes from counts, genes and proteins from z.

Notation as in `layers`; p counts proteins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models_store.cells import Cells, Posterior, Projection
from models_store.coders import Decoder, Dispersion, Encoder, SizeEncoder, norms
from models_store.layers import Code, Codes
from models_store.manifest import Architecture
from models_store.modalities import N_MODALITIES
from models_store.protein_likelihood import ProteinOutput, foreground_scale, log_mixture
from models_store.reconstruction import DecoderOutput, Head
from models_store.totalvi_decoder import Branch

PROTEIN_DROPOUT = 0.1
"""Of the protein decoder's hidden layers: scvi-tools gives it no other, whatever the model has."""
LEAK = 0.01
"""Of the leaky ReLU that ends the encoder of the log library."""
SMALLEST_SIZE_FACTOR = 1e-6
"""Added to size factors, as scvi-tools does: a cell without genes may have 0."""
DEPTH_EPS = 1e-7
"""Depths that are given are kept so far from 0 and 1, so that they have a logit."""


@dataclass(frozen=True)
class Encoded:
    """What the encoders say of cells."""

    each: tuple[Posterior, ...]
    """Of each modality, whether a cell has it or not."""
    q_z: Posterior
    present: Float[Tensor, "c k"]
    log_library: Float[Tensor, "c 1"]
    depth: Float[Tensor, "c 1"]
    """The logit of d."""


def modality_encoder(
    n_in: int, a: Architecture, n_categories: Sequence[int], *, deeply: bool
) -> Encoder:
    """q_k(z | x_k, s) of one modality; `deeply`: whether deeper layers see the covariates."""
    return Encoder(
        n_in,
        a.n_latent,
        a,
        n_layers=a.n_layers,
        n_categories=n_categories,
        activation="leaky_relu",
        variance_eps=0.0,
        inject_deeply=deeply,
    )


def size_encoder(n_in: int, a: Architecture, n_categories: Sequence[int]) -> SizeEncoder:
    """The log library of the genes, or the logit of the regions' depth, from their counts."""
    deeply, normed = a.deeply_inject_covariates, norms(a, "encoder")
    return SizeEncoder(n_in, a, n_categories, inject_deeply=deeply, normed=normed)


def given_sizes(cells: Cells, a: Architecture) -> Float[Tensor, "c s"]:
    """The log library and the logit of the depth, those of them that are given."""
    if a.library != "size_factor":
        return cells.x[:, :0]
    assert cells.size_factor is not None
    factors = cells.size_factor.reshape(len(cells.x), -1)
    found = [(factors[:, :1] + SMALLEST_SIZE_FACTOR).log()]
    if a.depth_factor:
        found.append(torch.logit(factors[:, -1:], eps=DEPTH_EPS))
    return torch.cat(found, dim=-1)


def sizes_of(
    encoders: tuple[SizeEncoder | None, SizeEncoder | None], projection: Projection, codes: Codes
) -> tuple[Float[Tensor, "c 1"], Float[Tensor, "c 1"]]:
    """The log library of cells and the logit of their depth; without an encoder, as given."""
    library_encoder, depth_encoder = encoders
    given = iter(torch.split(projection.log_library[:, N_MODALITIES:], 1, dim=-1))
    n_encoded = sum(encoder is not None for encoder in encoders)
    seen = iter(() if projection.library is None else projection.library.chunk(n_encoded, dim=-1))
    if library_encoder is None:
        log_library = next(given)
    else:
        log_library = nn.functional.leaky_relu(library_encoder(next(seen), codes), LEAK)
    depth = next(given) if depth_encoder is None else depth_encoder(next(seen), codes)
    return log_library, depth


class GeneDecoder(nn.Module):
    """[z | continuous] and covariates to the likelihood of genes, as SCVI has it."""

    def __init__(self, n_in: int, a: Architecture, n_categories: Sequence[int]) -> None:
        super().__init__()
        self.architecture = a
        self.head = Head(a.likelihood, softplus_scale=a.library == "size_factor")
        self.decoder = Decoder(n_in, a, n_categories, n_out=a.n_genes)
        rows = {"gene": 1, "gene-batch": n_categories[0], "gene-cell": 0}
        self.dispersion = Dispersion(rows[a.dispersion], a.n_genes)

    def emit(
        self, h: Float[Tensor, "c h"], log_library: Float[Tensor, "c 1"], cells: Cells
    ) -> DecoderOutput:
        """The raw outputs from the last hidden layer."""
        pi = None if self.decoder.pi is None else self.decoder.pi(h)
        return DecoderOutput(self.decoder.scale(h), log_library, self.log_theta(h, cells), pi)

    def log_theta(self, h: Float[Tensor, "c h"], cells: Cells) -> Float[Tensor, "*#c g"]:
        """log θ of each gene, for all cells or for each."""
        if self.decoder.log_theta is not None:
            return torch.as_tensor(self.decoder.log_theta(h))
        if self.architecture.dispersion == "gene-batch":
            return torch.as_tensor(self.dispersion(cells.codes[0]))
        return self.dispersion.reference[0]

    def shares(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c g"]:
        """Each gene's share of the mean before zero inflation."""
        return self.head.scale(self.decoder.scale(self.decoder.layers(seen, codes)))

    def expected(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c g"]:
        """μ (1 - σ(π)) of a library of 1, π of zinb alone."""
        h = self.decoder.layers(seen, codes)
        mu, pi = self.head.scale(self.decoder.scale(h)), self.decoder.pi
        return mu if pi is None else mu * torch.sigmoid(-pi(h))


class ProteinDecoder(nn.Module):
    """[z | continuous] and covariates to the mixture of each protein, as in `totalvi_decoder`.

    Its hidden layers see the covariates in every layer, whatever the architecture says, and the
    background has no prior.
    """

    def __init__(self, n_in: int, a: Architecture, n_categories: Sequence[int]) -> None:
        super().__init__()
        own = {"deeply_inject_covariates": True, "decoder_dropout_rate": PROTEIN_DROPOUT}
        a, p = a.model_copy(update=own), a.n_proteins
        self.background = Branch(n_in, {"mean": p, "sd": p}, a, n_categories)
        self.foreground = Branch(n_in, {"scale": p}, a, n_categories)
        self.mixing = Branch(n_in, {"proteins": p}, a, n_categories)
        self.by_batch = a.protein_dispersion == "protein-batch"
        self.dispersion = Dispersion(n_categories[0] if self.by_batch else 1, p)
        with torch.no_grad():
            self.dispersion.reference.uniform_(0, 2)

    def forward(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> ProteinOutput:
        """Of these cells; `sd` is log β."""
        back, fore = self.background(seen, codes), self.foreground(seen, codes)
        mixing = self.mixing(seen, codes)["proteins"]
        return ProteinOutput(back["mean"], back["sd"], fore["scale"], mixing)

    def surprise(
        self,
        y: Float[Tensor, "c p"],
        out: ProteinOutput,
        noise: Float[Tensor, "c p"],
        batch: Code,
    ) -> Float[Tensor, " c"]:
        """-log p(y) of each cell, with the background drawn by `noise`."""
        log_theta = self.dispersion(batch) if self.by_batch else self.dispersion.reference[0]
        back = (out.mean + out.sd.exp() * noise).exp()
        fore = back * foreground_scale(out)
        return -log_mixture(y, back, fore, log_theta.exp(), out.mixing).sum(-1)

    def expected(self, seen: Float[Tensor, "c n_in"], codes: Codes) -> Float[Tensor, "c p"]:
        """Mean counts, of background and foreground together."""
        out: ProteinOutput = self(seen, codes)
        back = (out.mean + 0.5 * out.sd.exp() ** 2).exp()
        is_fore = torch.sigmoid(-out.mixing)
        return back * (1 - is_fore + is_fore * foreground_scale(out))
