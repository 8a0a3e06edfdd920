"""What a reference version says of itself: the manifest, torch-free, readable by every process.

Everything that differs between references is data here, never a branch on a reference's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models_store.architecture import FEATURES_OF, SOME_ABSENT
from models_store.architecture import Architecture as Architecture
from models_store.architecture import Dispersion as Dispersion
from models_store.architecture import Kind as Kind
from models_store.architecture import Likelihood as Likelihood
from models_store.architecture import Normalised as Normalised
from models_store.feature_kinds import KINDS, FeatureKind
from models_store.gene_columns import QueryGenes
from models_store.gene_matching import GeneMatch
from models_store.gene_panel import Genes
from models_store.gene_species import declared_species
from models_store.panel_matching import match_panel
from models_store.recipe import RECIPES, Recipe, RecipeName
from models_store.recipe_evidence import RecipeEvidence

MANIFEST_VERSION = 1
MANIFEST_FILE = "manifest.json"

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
"""Reference names appear in URLs and folder names, so they stay this plain."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Covariate(_Frozen):
    """A categorical covariate of the reference: its obs column and its ordered categories."""

    key: str | None
    """The obs column at training; None when the reference was built without a batch column."""
    categories: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _categories_differ(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"covariate {self.key!r} lists a category twice")
        return self


class LabelLevel(_Frozen):
    """One level of cell labels, its categories in order, and their ontology ids where known."""

    key: str
    categories: tuple[str, ...]
    ontology_ids: tuple[str | None, ...] | None = None

    @model_validator(mode="after")
    def _ids_fit(self) -> Self:
        if self.ontology_ids is not None and len(self.ontology_ids) != len(self.categories):
            raise ValueError(f"label level {self.key!r} has not one ontology id per category")
        return self


class Thresholds(_Frozen):
    """Gene coverage below which a query is refused, and below which it is warned about.

    Coverage is the share of the panel's genes that the query has, or of the expression that is
    expected of them, whichever is lower.
    """

    refuse_below: float = Field(default=0.5, ge=0, le=1)
    warn_below: float = Field(default=0.8, ge=0, le=1)
    poorly_explained_below: float = 0.3
    """Of `explained`: below, the cells are probably none of this reference's tissue (0054)."""

    @classmethod
    def given(cls, refuse_below: float | None, warn_below: float | None) -> Self:
        """The defaults, but for what a builder says."""
        said = {"refuse_below": refuse_below, "warn_below": warn_below}
        return cls(**{name: value for name, value in said.items() if value is not None})


class Provenance(_Frozen):
    """Where a reference version came from, enough to make it again."""

    cellgraft_version: str
    torch_version: str
    source_sha256: str | None = None
    source_name: str | None = None
    n_cells: int
    seed: int
    epochs: int | None = None
    held_out_elbo: float | None = None
    """Mean held-out ELBO per cell (nats, KL weight 1); higher is better."""
    held_out_accuracy: float | None = None
    """SCANVI: share of held-out cells with a label that are given it."""
    seconds: float | None = None
    created_at: str
    settings: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)


class OwnFit(_Frozen):
    """How far the reference's own cells are from its forward pass (see `models_store.misfit`).

    What the misfit of a query is held against, at the same number of counts a cell.
    """

    library_size: int = Field(gt=0)
    """Counts a cell, in the panel."""
    misfit: float
    """Nats a count; about 0 for a network that knows its cells."""
    by_kind: Mapping[FeatureKind, float] | None = None
    """The same of the counts of each kind of feature. None: the panel has one kind."""
    error: float
    """The standard error of the misfit."""
    n_cells: int
    cells: Literal["held-out", "all"]
    """Whether these cells were kept from training."""

    def weighed(self, weights: Sequence[float]) -> float:
        """The misfit of cells with these shares of the counts in each of `KINDS`."""
        if self.by_kind is None:
            return self.misfit
        known = [self.by_kind.get(kind, self.misfit) for kind in KINDS]
        return sum(weight * nats for weight, nats in zip(weights, known, strict=True))


class SelfTest(_Frozen):
    """What registration proved about the bundle on the machine that made it."""

    weights_load: bool
    encoder_sees_batch: bool
    """False: surgery cannot change a latent; said in every answer."""
    padded_cells_map: bool
    reference_reproduced: bool | None
    """Reference cells, encoded with large query weights, gave the stored latents bit for bit; None
    for an import without counts, which shows it on the probe cells alone."""
    n_cells_checked: int


BY_GENE = ("expected_expression", "informativeness")
"""Fields of a manifest that hold a number for each gene of the panel."""


class Manifest(_Frozen):
    """A reference version: what it is, what it was trained on, and the hash of each file."""

    manifest_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(gt=0)
    kind: Kind = "scvi"
    input: Literal["counts", "continuous"] = "counts"
    architecture: Architecture
    genes: Genes
    species: str | None = None
    batch: Covariate
    extra_covariates: tuple[Covariate, ...] = ()
    continuous_covariates: tuple[str, ...] = ()
    size_factor_key: str | None = None
    depth_key: str | None = None
    """MULTIVI: the obs column of a cell's depth in regions, 0 to 1, where depths are given."""
    labels: tuple[LabelLevel, ...] = ()
    """SCANVI predicts the first level, with the network's outputs in the order of its categories,
    among which the unlabelled one never is."""
    unlabeled_category: str | None = None
    """SCANVI: the value of the first level's column that stands for no label."""
    default_recipe: Recipe = RECIPES["default"]
    recipe_evidence: RecipeEvidence | None = None
    """Why this is the default. None: the version is older than searches for a recipe."""
    thresholds: Thresholds = Thresholds()
    expected_expression: tuple[float, ...]
    """Mean over the reference's cells of each feature's share of the counts; sums to 1."""
    informativeness: tuple[float, ...] | None = None
    """How much each gene tells the reference's cells apart (`models_store.informativeness`); sums
    to 1. None: the version is older, and genes are weighed by expected expression."""
    licence: str | None = None
    """SPDX identifier."""
    citation: str | None = None
    provenance: Provenance
    self_test: SelfTest | None = None
    own_fit: tuple[OwnFit, ...] | None = None
    """By ascending library size. None: its counts were not at hand, or the version is older."""
    files: Mapping[str, Sha256] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        n_features = self.architecture.n_features
        if len(self.genes.ids) != n_features or len(self.expected_expression) != n_features:
            raise ValueError("the manifest's gene columns and its architecture differ in length")
        if self.informativeness is not None and len(self.informativeness) != n_features:
            raise ValueError("informativeness is not given for each gene")
        if (self.input == "continuous") != (self.architecture.likelihood == "normal"):
            raise ValueError("input is `continuous` exactly when the likelihood is `normal`")
        return self

    @model_validator(mode="after")
    def _features_fit_the_kind(self) -> Self:
        counts, allowed = self.architecture.counts(), FEATURES_OF[self.kind]
        if self.genes.counts() != counts:
            raise ValueError("the manifest's modalities and its architecture differ")
        if any(n and kind not in allowed for kind, n in counts.items()):
            raise ValueError(f"kind `{self.kind}` has features of kind {', '.join(allowed)} alone")
        if self.kind not in SOME_ABSENT and not all(counts[kind] for kind in allowed):
            raise ValueError(f"kind `{self.kind}` needs features of kind {', '.join(allowed)}")
        if self.architecture.depth_factor and self.kind != "multivi":
            raise ValueError("a depth that is given belongs to kind `multivi`")
        return self

    @model_validator(mode="after")
    def _columns_are_named(self) -> Self:
        if (self.architecture.library == "size_factor") != (self.size_factor_key is not None):
            raise ValueError("a size factor library and `size_factor_key` belong together")
        if self.architecture.depth_factor != (self.depth_key is not None):
            raise ValueError("a depth that is given and `depth_key` belong together")
        if self.depth_key is not None and self.size_factor_key is None:
            raise ValueError("a depth is given beside a size factor of the genes")
        if self.architecture.dispersion_by_label and not self.labels:
            raise ValueError("dispersion by label needs a label level")
        return self

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> Self:
        if self.kind != "scanvi":
            if self.unlabeled_category is not None or self.architecture.linear_classifier:
                raise ValueError("an unlabelled category and a classifier belong to kind `scanvi`")
            return self
        if not self.labels or not self.labels[0].categories:
            raise ValueError("kind `scanvi` needs a label level with categories")
        if self.unlabeled_category in self.labels[0].categories:
            raise ValueError("the unlabelled category is none of the labels")
        if self.architecture.latent_distribution != "normal":
            raise ValueError("kind `scanvi` has a normal latent: its loss needs the density of z")
        return self

    @property
    def surgery_has_effect(self) -> bool:
        """Whether query weights can move a latent (scvi-tools#2331)."""
        return self.architecture.encode_covariates

    def match_genes(self, query: QueryGenes | Mapping[str, Sequence[str]]) -> GeneMatch:
        """Match a query's features to the panel: see `models_store.panel_matching`.

        Args:
            query: its features, or each column of names alone, the var index first.

        Raises:
            ValueError: the query offers no column.
        """
        genes = query if isinstance(query, QueryGenes) else QueryGenes.of(query)
        return match_panel(
            genes, self.genes, self.expected_expression, declared_species(self.species)
        )

    def recipe(self, name: RecipeName) -> Recipe:
        """The named recipe; `default` is the one that this reference version chose."""
        return self.default_recipe if name == "default" else RECIPES[name]
