"""The order in which ranked references are told, and the sentence that is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.coverage import Coverage
from app.tables import ReferenceVersion

WELL_EXPLAINED = 0.6
"""Cells of the reference's own tissue reach it, as a rule, even from another kind of assay."""
ENOUGH_COVERED = 0.2
"""Share of the expected expression; cells of any tissue may look alike in fewer genes."""
FIGURES = (
    "explained",
    "misfit",
    "misfit_error",
    "own_misfit",
    "own_cells",
    "library_size",
    "n_cells",
    "unexplained_genes",
)


@dataclass(frozen=True)
class RankedReference:
    """A reference beside a query: whose genes it has, and how well it explains the cells."""

    version: ReferenceVersion
    coverage: Coverage
    poorly_below: float
    found: Mapping[str, Any] | None
    """What the worker found; None: it did not compare this reference."""

    @property
    def explained(self) -> float | None:
        return None if self.found is None else self.found.get("explained")

    @property
    def problem(self) -> dict[str, Any] | None:
        return None if self.found is None else self.found.get("problem")

    @property
    def score(self) -> float | None:
        """How well the cells are explained, times how much of what the reference looks at they
        were measured for: what is explained of few genes says little."""
        if self.explained is None:
            return None
        return round(self.explained * self.coverage.expected_expression_covered, 4)

    @property
    def figures(self) -> dict[str, Any]:
        found = self.found or {}
        return {name: found[name] for name in FIGURES if name in found}

    @property
    def place(self) -> tuple[Any, ...]:
        """Sorts the best first: what cannot be mapped onto comes after what can."""
        covered = self.coverage.expected_expression_covered
        if self.coverage.n_matched == 0:
            group = 3
        elif self.coverage.advice == "refused":
            group = 2
        else:
            group = 1 if self.score is None else 0
        misfit = (self.found or {}).get("misfit") or 0.0
        return (group, -(self.score or 0.0), misfit, -covered, self.version.name)

    @property
    def verdict(self) -> str:
        """One sentence, or two."""
        coverage = self.coverage
        if coverage.n_matched == 0:
            return "The query has none of this reference's genes."
        if coverage.species_differ:
            query, ours = " and ".join(coverage.query_species), coverage.reference_species
            return f"The query's genes are of {query}, this reference's of {' and '.join(ours)}."
        genes = f"{coverage.n_matched:,} of {coverage.n_panel:,} {coverage.kind}s"
        if coverage.advice == "refused":
            return f"The query has too few of this reference's genes to be mapped: {genes}."
        covered = coverage.expected_expression_covered
        if self.explained is not None and covered < ENOUGH_COVERED:
            return (
                f"Too few genes to tell: {genes}, with {covered:.0%} of what the reference expects "
                "to be expressed."
            )
        few = f" But the query has only {genes}." if coverage.advice == "low" else ""
        return f"{self._of_cells()}{few}"

    def _of_cells(self) -> str:
        if self.problem is not None:
            return f"It could not be compared: {self.problem.get('detail', 'see `problem`.')}"
        if self.explained is None:
            why = (self.found or {}).get("why_not") or "other references cover more of its genes"
            return f"Not compared: {why}."
        if self.explained < self.poorly_below:
            return (
                "It explains these cells poorly: they are probably of another tissue, organism or "
                "kind of assay."
            )
        if self.explained < WELL_EXPLAINED:
            return "It explains these cells in part."
        return "It explains these cells well."
