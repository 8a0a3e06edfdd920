"""The configurations that parity is shown on; together they cover every option."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from models_store.manifest import Architecture, Kind

N_GENES, N_HIDDEN, N_LATENT = 40, 16, 4


@dataclass(frozen=True)
class Configuration:
    """A reference, and the query that is grafted onto it."""

    name: str
    architecture: Architecture
    reference_batches: tuple[str, ...] = ("a", "b")
    query_batches: tuple[str, ...] = ("c", "d")
    extra: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Each extra covariate with its values in the reference and in the query."""
    n_continuous: int = 0
    label_key: str | None = None
    """With labels, the query also has cells of an unknown label, and SCANVI's reference too."""
    kind: Kind = "scvi"

    @property
    def of_regions(self) -> bool:
        return self.architecture.n_regions > 0


def _architecture(**options: object) -> Architecture:
    sizes = {"n_genes": N_GENES, "n_hidden": N_HIDDEN, "n_latent": N_LATENT}
    return Architecture.model_validate(sizes | options)


def _scanvi(name: str, *, extra: object = None, **options: object) -> Configuration:
    """A configuration of SCANVI; options that are none of the architecture's are its own."""
    own = {"reference_batches", "query_batches", "n_continuous"}
    return Configuration(
        f"SCANVI: {name}",
        _architecture(**{key: value for key, value in options.items() if key not in own}),
        **{key: value for key, value in options.items() if key in own},
        extra=extra or {},
        label_key="cell_type",
        kind="scanvi",
    )


def _regions(kind: Kind, name: str, *, extra: object = None, **options: object) -> Configuration:
    """A configuration of a kind of regions, with scvi-tools' own options of it unless said."""
    own = {"reference_batches", "query_batches", "n_continuous"}
    sizes = {"n_genes": 0, "n_regions": N_GENES, "dropout_rate": 0.1}
    sizes |= {"likelihood": "poisson"} if kind == "poissonvi" else {"log_variational": False}
    asked = {key: value for key, value in options.items() if key not in own}
    return Configuration(
        f"{kind.upper()}: {name}",
        _architecture(**(sizes | asked)),
        **{key: value for key, value in options.items() if key in own},
        extra=extra or {},
        kind=kind,
    )


_peakvi, _poissonvi = partial(_regions, "peakvi"), partial(_regions, "poissonvi")

PLATE = {"plate": (("p0", "p1", "p2"), ("p1", "p9"))}
LN, FIRST_LAYER = {"latent_distribution": "ln"}, {"deeply_inject_covariates": False}
SITE = {"site": (("s0", "s1"), ("s0", "s7", "s8"))}

CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        Configuration("recommended", _architecture()),
        Configuration(
            "scvi-tools' own defaults",
            _architecture(
                n_layers=1,
                dropout_rate=0.1,
                likelihood="zinb",
                encode_covariates=False,
                batch_norm="both",
                layer_norm="none",
            ),
        ),
        Configuration(
            "zinb, batch norm in the encoder, layer norm in the decoder",
            _architecture(likelihood="zinb", batch_norm="encoder", layer_norm="decoder"),
        ),
        Configuration(
            "gene-cell dispersion, batch norm in the decoder, layer norm in the encoder",
            _architecture(dispersion="gene-cell", batch_norm="decoder", layer_norm="encoder"),
        ),
        Configuration(
            "both norms everywhere, poisson",
            _architecture(likelihood="poisson", batch_norm="both", layer_norm="both"),
        ),
        Configuration("no norm at all", _architecture(batch_norm="none", layer_norm="none")),
        Configuration("normal", _architecture(likelihood="normal", log_variational=False)),
        Configuration(
            "normal, gene-batch dispersion, size factor",
            _architecture(likelihood="normal", dispersion="gene-batch", library="size_factor"),
        ),
        Configuration("gene-batch dispersion", _architecture(dispersion="gene-batch")),
        Configuration(
            "gene-label dispersion, cells of unknown label",
            _architecture(dispersion="gene-label"),
            label_key="cell_type",
        ),
        Configuration("zinb, gene-cell", _architecture(likelihood="zinb", dispersion="gene-cell")),
        Configuration("latent library", _architecture(library="latent")),
        Configuration(
            "latent library, batch norm, zinb, gene-batch dispersion",
            _architecture(
                library="latent",
                likelihood="zinb",
                dispersion="gene-batch",
                batch_norm="both",
                layer_norm="none",
            ),
        ),
        Configuration("size factor", _architecture(library="size_factor")),
        Configuration(
            "size factor, zinb, gene-cell dispersion",
            _architecture(library="size_factor", likelihood="zinb", dispersion="gene-cell"),
        ),
        Configuration(
            "size factor, poisson", _architecture(library="size_factor", likelihood="poisson")
        ),
        Configuration(
            "covariates in the first layer only", _architecture(deeply_inject_covariates=False)
        ),
        Configuration("expression alone encoded", _architecture(encode_covariates=False)),
        Configuration("one extra covariate", _architecture(), extra=PLATE),
        Configuration(
            "two extra covariates, one reference batch, latent library",
            _architecture(library="latent", deeply_inject_covariates=False),
            reference_batches=("a",),
            extra=PLATE | SITE,
        ),
        Configuration(
            "continuous covariates, extra covariate, batch norm",
            _architecture(likelihood="zinb", batch_norm="both"),
            extra=PLATE,
            n_continuous=2,
        ),
        Configuration(
            "continuous covariates, expression alone encoded",
            _architecture(encode_covariates=False),
            n_continuous=2,
        ),
        Configuration("logistic-normal latent", _architecture(latent_distribution="ln")),
        Configuration("one reference batch", _architecture(), reference_batches=("a",)),
        Configuration(
            "one reference batch, gene-batch dispersion, one new batch",
            _architecture(dispersion="gene-batch"),
            reference_batches=("a",),
            query_batches=("c",),
        ),
        Configuration(
            "query with cells of a reference batch", _architecture(), query_batches=("b", "c")
        ),
        Configuration("one layer", _architecture(n_layers=1)),
        Configuration("three layers", _architecture(n_layers=3, batch_norm="both")),
        Configuration("counts encoded without a logarithm", _architecture(log_variational=False)),
        _scanvi("recommended"),
        _scanvi(
            "scvi-tools' own defaults",
            n_layers=1,
            dropout_rate=0.1,
            likelihood="zinb",
            encode_covariates=False,
            batch_norm="both",
            layer_norm="none",
        ),
        _scanvi("batch norm in both", batch_norm="both", layer_norm="none"),
        _scanvi("linear classifier", linear_classifier=True),
        _scanvi("covariates in the first layer only", deeply_inject_covariates=False),
        _scanvi("expression alone encoded", encode_covariates=False),
        _scanvi("latent library", library="latent"),
        _scanvi("gene-batch dispersion", dispersion="gene-batch"),
        _scanvi("one reference batch", reference_batches=("a",)),
        _scanvi("one extra covariate", extra=PLATE),
        _scanvi("size factor", library="size_factor"),
        _scanvi(
            "three layers, linear classifier, both norms, latent library, gene-batch, zinb",
            n_layers=3,
            linear_classifier=True,
            batch_norm="both",
            library="latent",
            dispersion="gene-batch",
            likelihood="zinb",
            query_batches=("b", "c"),
        ),
        _scanvi(
            "continuous covariates, two extra covariates, gene-cell dispersion, poisson",
            likelihood="poisson",
            dispersion="gene-cell",
            extra=PLATE | SITE,
            n_continuous=2,
            batch_norm="encoder",
            layer_norm="decoder",
        ),
        _peakvi("covariates encoded, and in every layer"),
        _peakvi(
            "scvi-tools' own defaults", encode_covariates=False, deeply_inject_covariates=False
        ),
        _peakvi("covariates in the first layer only", deeply_inject_covariates=False),
        _peakvi("no depth", model_depth=False),
        _peakvi("no region factors, logistic-normal latent", region_factors=False, **LN),
        _peakvi("batch norm, one layer to decode", batch_norm="both", n_layers_decoder=1),
        _peakvi("one reference batch", reference_batches=("a",)),
        _peakvi(
            "one extra covariate, continuous covariates, a reference batch in the query",
            extra=PLATE,
            n_continuous=2,
            query_batches=("b", "c"),
        ),
        _poissonvi("covariates encoded"),
        _poissonvi("scvi-tools' own defaults", encode_covariates=False),
        _poissonvi("size factor, first layer only", library="size_factor", **FIRST_LAYER),
        _poissonvi("one reference batch, three layers", reference_batches=("a",), n_layers=3),
        _poissonvi("one extra covariate, logistic-normal latent", extra=PLATE, **LN),
    )
}
