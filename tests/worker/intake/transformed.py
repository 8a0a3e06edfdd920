"""Matrices made of counts in the ways that are met: transformed, scaled, corrected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Matrix = np.ndarray
REFUSED: dict[str, tuple[str, Callable[[Matrix], Matrix]]] = {}
"""By name: the code that refuses it, and how it is made of counts."""


def cells(n_cells: int = 150, n_genes: int = 400, *, seed: int = 0, depth: float = 3000) -> Matrix:
    """Counts of cells of very different depth, genes from nearly silent to abundant."""
    rng = np.random.default_rng(seed)
    share = rng.lognormal(0, 1.8, n_genes)
    library = depth * rng.lognormal(0, 0.5, (n_cells, 1))
    rate = rng.gamma(2.0, 0.5, (n_cells, n_genes)) * share / share.sum() * library
    return rng.poisson(rate).astype(np.float64)


def normalised(counts: Matrix, target: float | None = 1e4, dtype: str = "f4") -> Matrix:
    """Each cell scaled to a common sum, by default of the sum's precision, as the field does it."""
    counts = counts.astype(dtype)
    sums = counts.sum(axis=1, keepdims=True)
    wanted = np.median(sums[sums > 0]) if target is None else target
    return counts / (np.where(sums > 0, sums, 1) / np.asarray(wanted, dtype)).astype(dtype)


def log_normalised(
    counts: Matrix, *, base: str = "e", target: float | None = 1e4, dtype: str = "f4"
) -> Matrix:
    scaled = normalised(counts, target, dtype)
    if base == "e":
        return np.log1p(scaled)
    return {"2": np.log2, "10": np.log10}[base](scaled + np.asarray(1, dtype))


def soup(counts: Matrix, share: float = 0.1) -> Matrix:
    """Every cell without its expected share of the background, as SoupX leaves it."""
    background = counts.sum(axis=0) / counts.sum()
    expected = share * counts.sum(axis=1, keepdims=True) * background
    return np.maximum(counts - expected, 0).astype("f4")


def estimated(counts: Matrix) -> Matrix:
    """Some counts shared out among genes, as RSEM, alevin and STARsolo's EM do."""
    rng = np.random.default_rng(3)
    moved = np.where(rng.random(counts.shape) < 0.15, rng.random(counts.shape), 0) * (counts > 0)
    return (counts - moved + np.roll(moved, 1, axis=1)).astype("f4")


def refused(code: str) -> Callable[[Callable[[Matrix], Matrix]], Callable[[Matrix], Matrix]]:
    def note(make: Callable[[Matrix], Matrix]) -> Callable[[Matrix], Matrix]:
        REFUSED[make.__name__] = (code, make)
        return make

    return note


def _lengths(counts: Matrix) -> Matrix:
    return np.random.default_rng(1).lognormal(0.5, 0.8, counts.shape[1])


def _some_genes(matrix: Matrix) -> Matrix:
    return matrix[:, ::2]


@refused("normalised-values")
def cpm(counts: Matrix) -> Matrix:
    return normalised(counts, 1e6)


@refused("normalised-values")
def cpm_double(counts: Matrix) -> Matrix:
    return normalised(counts, 1e6, "f8")


@refused("normalised-values")
def cp10k(counts: Matrix) -> Matrix:
    return normalised(counts, 1e4)


@refused("normalised-values")
def median_normalised(counts: Matrix) -> Matrix:
    return normalised(counts, None)


@refused("normalised-values")
def cpm_of_some_genes(counts: Matrix) -> Matrix:
    return _some_genes(normalised(counts, 1e6))


@refused("normalised-values")
def median_normalised_some_genes(counts: Matrix) -> Matrix:
    return _some_genes(normalised(counts, None))


@refused("normalised-values")
def size_factors(counts: Matrix) -> Matrix:
    return (counts / np.random.default_rng(2).lognormal(0, 0.15, (len(counts), 1))).astype("f4")


@refused("normalised-values")
def size_factors_two_decimals(counts: Matrix) -> Matrix:
    return np.round(size_factors(counts), 2)


@refused("normalised-values")
def tpm(counts: Matrix) -> Matrix:
    return normalised(counts / _lengths(counts), 1e6)


@refused("normalised-values")
def tpm_of_some_genes(counts: Matrix) -> Matrix:
    return _some_genes(tpm(counts))


@refused("normalised-values")
def rpkm(counts: Matrix) -> Matrix:
    return cpm(counts) / _lengths(counts)


@refused("normalised-values")
def cpm_two_decimals(counts: Matrix) -> Matrix:
    return np.round(cpm(counts), 2)


@refused("rounded-cpm")
def rounded_cpm(counts: Matrix) -> Matrix:
    return np.rint(cpm(counts))


@refused("rounded-cpm")
def floored_cpm(counts: Matrix) -> Matrix:
    return np.floor(cpm(counts))


@refused("rounded-cpm")
def rounded_cpm_of_some_genes(counts: Matrix) -> Matrix:
    return _some_genes(rounded_cpm(counts))


@refused("rounded-cpm")
def rounded_tpm(counts: Matrix) -> Matrix:
    return np.rint(tpm(counts))


@refused("rounded-cpm")
def tenfold(counts: Matrix) -> Matrix:
    return counts * 10


@refused("negative-values")
def z_scores(counts: Matrix) -> Matrix:
    logs = log_normalised(counts)
    return (logs - logs.mean(axis=0)) / (logs.std(axis=0) + 1e-6)


@refused("negative-values")
def clipped_z_scores(counts: Matrix) -> Matrix:
    return np.clip(z_scores(counts), -10, 10)


@refused("negative-values")
def pearson_residuals(counts: Matrix) -> Matrix:
    mean = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return (counts - mean) / np.sqrt(mean + mean**2 / 100 + 1e-9)


@refused("normalised-values")
def square_root(counts: Matrix) -> Matrix:
    return np.sqrt(counts)


@refused("normalised-values")
def square_root_of_cpm(counts: Matrix) -> Matrix:
    return np.sqrt(cpm(counts))


@refused("normalised-values")
def arcsinh(counts: Matrix) -> Matrix:
    return np.arcsinh(counts / 5).astype("f4")


@refused("truncated-values")
def clipped_logs(counts: Matrix) -> Matrix:
    return np.minimum(log_normalised(counts), 5)


@refused("truncated-values")
def logs_of_two_decimals(counts: Matrix) -> Matrix:
    return np.round(log_normalised(counts), 2)


@refused("truncated-values")
def logs_of_four_decimals(counts: Matrix) -> Matrix:
    return np.round(log_normalised(counts, dtype="f8"), 4)


@refused("truncated-values")
def logs_in_half_precision(counts: Matrix) -> Matrix:
    return log_normalised(counts).astype("f2")


@refused("log-normalised")
def logs_of_tpm(counts: Matrix) -> Matrix:
    return np.log1p(tpm(counts))


@refused("log-normalised")
def logs_of_corrected_counts(counts: Matrix) -> Matrix:
    return log_normalised(soup(counts))


@refused("log-normalised")
def gene_wise_scaled_logs(counts: Matrix) -> Matrix:
    logs = log_normalised(counts)
    return logs / logs.std(axis=0).clip(0.1)


@refused("normalised-values")
def shares_of_one(counts: Matrix) -> Matrix:
    return (counts / counts.max(axis=0).clip(1)).astype("f4")


@refused("normalised-values")
def imputed(counts: Matrix) -> Matrix:
    rates = normalised(counts, None, "f8")
    near = np.argsort(((rates[:, None, :8] - rates[None, :, :8]) ** 2).sum(axis=2), axis=1)
    return rates[near[:, :15]].mean(axis=1) * 1.7
