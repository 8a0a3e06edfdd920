"""The configurations that parity is shown on; together they cover every option."""

from __future__ import annotations

from dataclasses import dataclass, field

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


PLATE = {"plate": (("p0", "p1", "p2"), ("p1", "p9"))}
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
    )
}
