"""The part of docs/parity.md that is of MULTIVI."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import Errors, worst
from .figures import figure, row
from .multivi_configurations import CONFIGURATIONS
from .multivi_measure import LIMITS, compare_query, compare_reference, failures

COLUMNS: dict[str, list[str]] = {
    "mean": ["posterior mean"],
    "variance": ["posterior variance"],
    "library, depth": ["library", "depth"],
    "reconstruction": ["reconstruction"],
    "KL z": ["KL z"],
    "penalty": ["penalty"],
    "loss": ["loss, w = 0", "loss, w = 0.3", "loss, w = 1"],
    "accessibility": ["accessibility", "accessibility in a reference batch"],
    "expression": ["normalised expression"],
    "foreground": ["protein foreground", "protein foreground in a reference batch"],
    "gradient": ["gradient", "gradient in training mode"],
    "way": ["weights after 5 steps", "way of the weights"],
    "frozen": ["frozen weights"],
}
INTRODUCTION = """\

## MULTIVI

The reference and the query after surgery together, the worse of both. **penalty** is what pulls the
modalities of a cell together; **accessibility**, **expression** and **foreground** are what the
public methods of scvi-tools give at the mean of z, for the cells' own batch and for one of the
reference. Cells are unpaired but in the first configuration. scvi-tools sums the MMD penalty over a
minibatch, and is compared at the size of each (decision 0073).
"""


def modality_lines() -> Iterator[str]:
    """The section; measures what no test has measured yet."""
    yield INTRODUCTION
    yield row("configuration", *COLUMNS, "")
    yield row("---", *("---:" for _ in COLUMNS), "---")
    yield row("*limit*", *(figure(quantities, LIMITS) for quantities in COLUMNS.values()), "")
    for name in CONFIGURATIONS:
        errors = _worse(compare_reference(name), compare_query(name))
        verdict = "**fail**" if failures(errors) else "pass"
        yield row(name, *(figure(qs, errors) for qs in COLUMNS.values()), verdict)


def _worse(one: Errors, other: Errors) -> Errors:
    return {
        quantity: worst((one.get(quantity, 0.0), other.get(quantity, 0.0)))
        for quantity in one | other
    }
