"""The sizes and options of a reference's network, as its manifest states them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models_store.feature_kinds import KINDS, FeatureKind

Kind = Literal["scvi", "scanvi", "peakvi", "poissonvi", "totalvi", "multivi"]
"""Which conditional VAE: `scanvi` is `scvi` with labels and a classifier, `poissonvi` is `scvi`
of regions, `peakvi` models which regions are open, `totalvi` genes with proteins, and `multivi`
any of the three."""
Likelihood = Literal["nb", "zinb", "poisson", "normal"]
Dispersion = Literal["gene", "gene-batch", "gene-label", "gene-cell"]
ProteinDispersion = Literal["protein", "protein-batch", "protein-label"]
Background = Literal["softplus", "exp"]
Normalised = Literal["none", "encoder", "decoder", "both"]
ModalityWeights = Literal["equal", "universal"]
ModalityPenalty = Literal["Jeffreys", "exact Jeffreys", "MMD", "None"]

FEATURES_OF: dict[Kind, tuple[FeatureKind, ...]] = {
    "scvi": ("gene",),
    "scanvi": ("gene",),
    "peakvi": ("region",),
    "poissonvi": ("region",),
    "totalvi": ("gene", "protein"),
    "multivi": ("gene", "region", "protein"),
}
"""The kinds of features that each kind of reference may have."""
SOME_ABSENT: frozenset[Kind] = frozenset({"multivi"})
"""Kinds that need not have each of these."""


class Architecture(BaseModel):
    """The sizes and options of a conditional VAE, under scvi-tools' own names.

    Sizes have an upper bound, because a request may ask for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_genes: int = Field(ge=0, le=200_000)
    n_regions: int = Field(default=0, ge=0, le=2_000_000)
    n_proteins: int = Field(default=0, ge=0, le=10_000)
    n_hidden: int = Field(default=128, gt=0, le=8192)
    n_latent: int = Field(default=10, gt=0, le=1024)
    n_layers: int = Field(default=2, gt=0, le=16)
    n_layers_decoder: int | None = Field(default=None, gt=0, le=16)
    """PEAKVI, TOTALVI and MULTIVI: hidden layers of the decoders. None: as many as the encoders
    have."""
    dropout_rate: float = Field(default=0.2, ge=0, lt=1)
    likelihood: Likelihood = "nb"
    dispersion: Dispersion = "gene"
    latent_distribution: Literal["normal", "ln"] = "normal"
    library: Literal["observed", "latent", "size_factor"] = "observed"
    log_variational: bool = True
    encode_covariates: bool = True
    deeply_inject_covariates: bool = True
    batch_norm: Normalised = "none"
    layer_norm: Normalised = "both"
    linear_classifier: bool = False
    """SCANVI: the classifier of labels is one linear layer, instead of `n_layers` hidden ones."""
    model_depth: bool = True
    """PEAKVI: an encoder of how deeply a cell was sequenced."""
    region_factors: bool = True
    """PEAKVI and MULTIVI: one factor for each region, of all cells."""
    protein_dispersion: ProteinDispersion = "protein"
    decoder_dropout_rate: float = Field(default=0.0, ge=0, lt=1)
    """TOTALVI: of the decoder, where others have none."""
    background: Background = "softplus"
    """TOTALVI: what makes the sd of a protein's log background positive; `exp` before scvi-tools
    1.2."""
    protein_efficiency: bool = True
    """TOTALVI: an efficiency of each batch, and what came to scvi-tools with it (1.3.1): counts
    are divided by 1 + their mean, proteins count by the KL weight, and two weak priors."""
    n_panels: int = Field(default=0, ge=0, le=100_000)
    """TOTALVI: panels of proteins that have a background each. 0: each batch has one."""
    depth_factor: bool = False
    """MULTIVI: how deeply the regions of a cell were sequenced is given, as its library is."""
    modality_weights: ModalityWeights = "equal"
    """MULTIVI: how much each modality counts for the latent, alike or learnt (decision 0073)."""
    modality_penalty: ModalityPenalty = "Jeffreys"
    """MULTIVI: what pulls the modalities of one cell together; `exact Jeffreys` before scvi-tools
    0.18."""

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if self.n_features == 0:
            raise ValueError("a network needs genes, regions or proteins")
        return self

    @property
    def dispersion_by_label(self) -> bool:
        """Whether the likelihood of genes or proteins reads the label of a cell."""
        return self.dispersion == "gene-label" or self.protein_dispersion == "protein-label"

    @property
    def n_features(self) -> int:
        """Columns of the counts that the network sees: genes, then regions, then proteins."""
        return sum(self.counts().values())

    def counts(self) -> dict[FeatureKind, int]:
        """How many features there are of each kind, in panel order."""
        return dict(zip(KINDS, (self.n_genes, self.n_regions, self.n_proteins), strict=True))
