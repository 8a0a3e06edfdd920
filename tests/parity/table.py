"""docs/parity.md: what it says and how its figures are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from models_store.manifest import Architecture

from . import totalvi_measure
from .configurations import CONFIGURATIONS, N_GENES, Configuration
from .errors import Errors
from .figures import figure, row
from .measure import KL_WEIGHTS, LIMITS, compare_query, compare_reference, failures
from .multivi_table import modality_lines
from .steps import N_STEPS
from .totalvi_oracle import TOTALVI_CONFIGURATIONS, TotalConfiguration

INTRODUCTION = """\
# Cellgraft's numbers beside scvi-tools 1.4.2

Written by `make parity`, which fails if a figure is over its limit. Do not edit.

Each configuration is a small reference that scvi-tools trained on simulated cells (so batch norm
has running statistics of its own), and a query that scvi-tools' `load_query_data` and our surgery
put on it. Both get the same weights, cells, minibatches and noise. The error of a quantity is
max|a - b| / max|b| over all cells (or weights), in float32.

Where Cellgraft departs from scvi-tools on purpose, scvi-tools is given our choice first: new
columns of an extra covariate stand in that covariate's own block; the only batch of a one-batch
reference contributes zero; cells of an unknown label have the mean dispersion; reference rows and
everything else of the reference have their gradients zeroed; the dispersion of new batches trains.

- **loss** is the worst of the total loss at KL weights {weights}.
- **gradient** is one gradient of all weights of the reference, by the closed form that training
  uses, against scvi-tools' autograd; in evaluation and in training mode (same dropout masks,
  statistics of the minibatch), with the running statistics that the latter leaves.
- **weights** are the query's after {steps} steps of Adam (learning rate 1e-3, eps 0.01) with KL
  weights from 0 to 1; **way** is how far they went, weights after minus weights before;
  **frozen** weights are all others, equal in every bit.
- Of SCANVI, **reconstruction** and **KL z** are the sums that scvi-tools gives (the latter with the
  library's); **cross-entropy** is that of the cells that have a label, and **labels** are the
  probabilities that `predict(soft=True)` gives. Some cells of both sides have no label.
- PEAKVI and POISSONVI are of {n} regions. The loss of PEAKVI is scvi-tools' over the square of the
  cells, which is a mean over cells again; **accessibility** is what `get_normalized_accessibility`
  gives at the mean of z.
- Of TOTALVI, **reconstruction** is that of the genes and **proteins** that of the proteins;
  **expression, foreground** is the worst of the normalised expression and of the proteins'
  foreground and its probability, decoded into the first batch of the reference.
- The latent of `ln` is a mean of 5,000 random draws, so its difference (*s.e.*) is in standard
  errors of the difference of two such means; the limit is {standard_errors:g}.

The last digit depends on the processor. 0 means equal in every bit.
"""

EVERY: dict[str, Configuration | TotalConfiguration] = {
    **CONFIGURATIONS,
    **TOTALVI_CONFIGURATIONS,
}
LOSS = [f"loss, w = {weight:g}" for weight in KL_WEIGHTS]
FORWARD: dict[str, list[str]] = {
    "mean": ["posterior mean"],
    "variance": ["posterior variance"],
    "latent": ["latent", "latent, in standard errors"],
    "reconstruction": ["reconstruction"],
    "KL z": ["KL z"],
    "KL library": ["KL library"],
    "cross-entropy": ["cross-entropy"],
    "labels": ["label probabilities"],
    "accessibility": ["accessibility"],
    "proteins": ["proteins"],
    "KL background": ["KL background"],
    "expression, foreground": [
        "normalised expression",
        "protein foreground",
        "foreground probability",
    ],
    "loss": LOSS,
}
REFERENCE = FORWARD | {
    "gradient": ["gradient"],
    "gradient, training": ["gradient in training mode"],
    "running statistics": ["running statistics"],
}
QUERY = FORWARD | {
    "weights": ["weights after 5 steps"],
    "way": ["way of the weights"],
    "frozen": ["frozen weights"],
}


def _of(name: str, which: Literal["reference", "query"]) -> Errors:
    """A configuration's errors, measured as its family is."""
    total = name in TOTALVI_CONFIGURATIONS
    if which == "reference":
        return (totalvi_measure.compare_reference if total else compare_reference)(name)
    return (totalvi_measure.compare_query if total else compare_query)(name)


def _table(columns: dict[str, list[str]], compare: Callable[[str], Errors]) -> Iterator[str]:
    yield row("configuration", *columns, "")
    yield row("---", *("---:" for _ in columns), "---")
    limits = {q: LIMITS[q] for q in LIMITS if q != "latent, in standard errors"}
    yield row("*limit*", *(figure(qs, limits) for qs in columns.values()), "")
    rows = {name: compare(name) for name in EVERY}
    for name, errors in rows.items():
        verdict = "**fail**" if failures(errors) else "pass"
        yield row(name, *(figure(qs, errors) for qs in columns.values()), verdict)
    worst = {q: max(e.get(q, 0.0) for e in rows.values()) for q in limits}
    yield row("**worst**", *(figure(qs, worst) for qs in columns.values()), "")


def _options(c: Configuration | TotalConfiguration) -> str:
    """What a configuration has that the recommended one has not."""
    options = [
        f"{key} {value}"
        for key, value in c.architecture.model_dump().items()
        if value != Architecture(n_genes=1).model_dump()[key]
        and key not in {"n_genes", "n_regions", "n_proteins", "n_hidden", "n_latent"}
    ]
    for key, (here, there) in c.extra.items():
        options.append(f"{key} with {len(here)} values and {len(set(there) - set(here))} new")
    if isinstance(c, TotalConfiguration):
        options.insert(0, "kind totalvi")
        options += [f"batch {batch} lacks {n} proteins" for batch, n in c.missing.items()]
    elif c.kind != Configuration("", c.architecture).kind:
        options.insert(0, f"kind {c.kind}")
    if c.n_continuous:
        options.append(f"{c.n_continuous} continuous covariates")
    reused = set(c.reference_batches) & set(c.query_batches)
    new = len(c.query_batches) - len(reused)
    batches = f"{len(c.reference_batches)} + {new} new" + (
        f", {len(reused)} reused" if reused else ""
    )
    return row(c.name, batches, "; ".join(options) or "none")


def render() -> str:
    """The whole document; measures what no test has measured yet."""
    recommended = Architecture(n_genes=1).model_dump(
        exclude={"n_genes", "n_regions", "n_proteins", "n_hidden", "n_latent", "n_layers_decoder"}
    )
    lines = [
        INTRODUCTION.format(
            n=N_GENES,
            weights=", ".join(f"{w:g}" for w in KL_WEIGHTS),
            steps=N_STEPS,
            standard_errors=LIMITS["latent, in standard errors"],
        ),
        "## The reference\n",
        *_table(REFERENCE, partial(_of, which="reference")),
        "\n## The query, after surgery\n",
        *_table(QUERY, partial(_of, which="query")),
        "\n## The configurations\n",
        "The recommended one: " + ", ".join(f"{k} {v}" for k, v in recommended.items()) + ".\n",
        row("configuration", "batches", "what differs from the recommended one"),
        row("---", "---", "---"),
        *map(_options, EVERY.values()),
        *modality_lines(),
    ]
    return "\n".join(lines) + "\n"
