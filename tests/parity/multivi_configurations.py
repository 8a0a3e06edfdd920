"""The configurations of MULTIVI that parity is shown on; together they cover every option."""

from __future__ import annotations

from dataclasses import dataclass, field

from models_store.manifest import Architecture

MODALITIES = {"rna": 30, "atac": 36, "protein": 5}


@dataclass(frozen=True)
class Configuration:
    """A reference of some modalities, and the query that is grafted onto it."""

    name: str
    options: dict[str, object] = field(default_factory=dict)
    """Of the architecture."""
    lacks: tuple[str, ...] = ()
    """Modalities that the reference has not."""
    paired: bool = False
    reference_batches: tuple[str, ...] = ("a", "b")
    query_batches: tuple[str, ...] = ("c", "d")
    plates: bool = False
    """Whether there is an extra covariate."""
    n_continuous: int = 0

    @property
    def modalities(self) -> dict[str, int]:
        return {name: n for name, n in MODALITIES.items() if name not in self.lacks}

    @property
    def size_factors(self) -> bool:
        return bool(self.options.get("depth_factor"))

    @property
    def architecture(self) -> Architecture:
        known = self.modalities
        sizes = {
            "n_genes": known.get("rna", 0),
            "n_regions": known.get("atac", 0),
            "n_proteins": known.get("protein", 0),
            "n_hidden": 16,
            "n_latent": 4,
            "dropout_rate": 0.1,
            "likelihood": "zinb",
            "log_variational": False,
        }
        return Architecture.model_validate(sizes | self.options)


CONFIGURATIONS = {
    each.name: each
    for each in (
        Configuration(
            "MULTIVI: scvi-tools' own defaults, genes and regions, paired",
            {"encode_covariates": False, "deeply_inject_covariates": False},
            lacks=("protein",),
            paired=True,
        ),
        Configuration("MULTIVI: genes, regions, proteins, unpaired, encoded, deep"),
        Configuration(
            "MULTIVI: unpaired genes and regions, nb, first layer only",
            {"likelihood": "nb", "deeply_inject_covariates": False},
            lacks=("protein",),
        ),
        Configuration(
            "MULTIVI: learnt weights, MMD, one reference batch",
            {"modality_weights": "universal", "modality_penalty": "MMD"},
            reference_batches=("a",),
        ),
        Configuration(
            "MULTIVI: no penalty, poisson, batch norm, no region factors, extra covariate",
            {
                "modality_penalty": "None",
                "likelihood": "poisson",
                "batch_norm": "both",
                "layer_norm": "none",
                "region_factors": False,
            },
            plates=True,
        ),
        Configuration(
            "MULTIVI: genes and proteins, both norms, other depths, continuous covariate",
            {
                "batch_norm": "encoder",
                "n_layers": 1,
                "n_layers_decoder": 2,
                "protein_dispersion": "protein-batch",
            },
            lacks=("atac",),
            n_continuous=1,
            query_batches=("b", "c"),
        ),
        Configuration(
            "MULTIVI: logistic-normal latent, expression alone encoded",
            {"latent_distribution": "ln", "encode_covariates": False},
        ),
        Configuration(
            "MULTIVI: size factor and depth given, unpaired",
            {"library": "size_factor", "depth_factor": True, "likelihood": "nb"},
        ),
        Configuration(
            "MULTIVI: size factor, genes and proteins, zinb, extra covariate",
            {"library": "size_factor", "depth_factor": True},
            lacks=("atac",),
            plates=True,
        ),
    )
}
